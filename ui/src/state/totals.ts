// Several edges as one: counts add up, quantiles do not. Pure.

import type { MapEdge } from "../api/types";
import { short } from "../text/format";

export interface Totals {
  flows: number;
  opens: number;
  packets: number;
  bytes: number;
  reply_packets: number;
  reply_bytes: number;
  drops: number;
  resets: number;
  retransmits: number;
  fails: number;
}

const COUNTED = [
  "flows",
  "opens",
  "packets",
  "bytes",
  "reply_packets",
  "reply_bytes",
  "drops",
  "resets",
  "retransmits",
  "fails",
] as const satisfies readonly (keyof Totals)[];

export function sum(edges: readonly MapEdge[]): Totals {
  const totals = Object.fromEntries(COUNTED.map((name) => [name, 0])) as unknown as Totals;
  for (const edge of edges) for (const name of COUNTED) totals[name] += edge[name];
  return totals;
}

export function dropReasons(edges: readonly MapEdge[]): [reason: string, drops: number][] {
  const reasons = new Map<string, number>();
  for (const edge of edges) {
    for (const [reason, n] of Object.entries(edge.drop_reasons)) reasons.set(reason, (reasons.get(reason) ?? 0) + n);
  }
  return [...reasons].sort((a, b) => b[1] - a[1]);
}

export const troubles = (t: Totals): number => t.drops + t.resets + t.fails;

/** What they are, in few letters: "3 drops", "1 reset". */
export function troubleParts(t: Totals): string[] {
  const part = (n: number, one: string) => (n > 0 ? [`${short(n)} ${one}${n === 1 ? "" : "s"}`] : []);
  return [...part(t.drops, "drop"), ...part(t.resets, "reset"), ...part(t.fails, "fail")];
}

export const troubleText = (t: Totals): string => troubleParts(t).join(", ");

const LATENCIES = [
  "connect_ms",
  "connect_p95_ms",
  "connect_p99_ms",
  "rtt_ms",
  "rtt_p95_ms",
  "rtt_p99_ms",
] as const satisfies readonly (keyof MapEdge)[];

export type Latencies = Record<(typeof LATENCIES)[number], number | null>;

/** A quantile of all is at most the largest of each; null where none tells. */
export function slowest(edges: readonly MapEdge[]): Latencies {
  const most = (name: (typeof LATENCIES)[number]) => {
    const told = edges.map((edge) => edge[name]).filter((ms) => ms != null);
    return told.length > 0 ? Math.max(...told) : null;
  };
  return Object.fromEntries(LATENCIES.map((name) => [name, most(name)])) as Latencies;
}

const PATH = [
  "sent_packets",
  "sent_bytes",
  "arrived_packets",
  "arrived_bytes",
  "reply_sent_packets",
  "reply_sent_bytes",
  "reply_arrived_packets",
  "reply_arrived_bytes",
  "path_loss",
] as const satisfies readonly (keyof MapEdge)[];

export type Path = Record<(typeof PATH)[number], number | null>;

/** What was sent and what arrived, of the edges for which both sides told; null where there are none. */
export function path(edges: readonly MapEdge[]): Path {
  const told = edges.filter((edge) => edge.path_loss != null);
  const total = (name: (typeof PATH)[number]) =>
    told.length > 0 ? told.reduce((sum, edge) => sum + (edge[name] ?? 0), 0) : null;
  return Object.fromEntries(PATH.map((name) => [name, total(name)])) as Path;
}
