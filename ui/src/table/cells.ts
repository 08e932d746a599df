// What the cells of a flow record say. Pure.

import type { FlowRecord } from "../api/types";
import { nameAge } from "../state/facts";
import type { Severity } from "../state/records";
import { bytes, count, nanoseconds, plural, short, socket } from "../text/format";

export interface End {
  kind: string | undefined;
  group: string;
  name: string;
  port: string;
  /** Address and port, for the tooltip. */
  full: string;
  /** How old the name is; "" where it is up to date. */
  age: string;
}

export function ends(r: FlowRecord): { source: End; destination: End } {
  return {
    source: end(r.src_kind, r.src_namespace, r.src_name, r.src_ip, port(r, r.src_port), r.src_identity_age),
    destination: end(r.dst_kind, r.dst_namespace, r.dst_name, r.dst_ip, port(r, r.dst_port), r.dst_identity_age),
  };
}

/** ICMP keeps its echo identifier where others have a port. */
const port = (r: FlowRecord, number: number | undefined) => (r.proto.startsWith("icmp") ? 0 : number);

function end(kind: string | undefined, namespace = "", name = "", ip: string, port = 0, seconds = 0): End {
  const shown = name || (ip.includes(":") ? `[${ip}]` : ip);
  const age = nameAge(name ? seconds : 0);
  const known = `${namespace && name ? `${namespace}/` : ""}${name ? `${name} ` : ""}${socket(ip, port)}`;
  const full = age ? `${known} (${age})` : known;
  return { kind, group: name ? namespace : "", name: shown, port: port ? `:${port}` : "", full, age };
}

/** Why, in the few words that are known. */
export function reason(r: FlowRecord): string {
  const held = r.lost && r.kind !== "lost" ? `+${short(r.lost)} alike` : "";
  const close = r.close_reason && r.close_reason !== "none" ? closed(r.close_reason) : "";
  const took = r.kind === "close" && r.duration ? nanoseconds(r.duration) : "";
  const via = r.virtual_ip ? `via ${socket(r.virtual_ip, port(r, r.virtual_port) ?? 0)}` : "";
  return [r.drop_reason, icmpError(r), close, took, via, wrapping(r), held].filter(Boolean).join(" · ");
}

const ICMP_ERRORS: Record<number, string> = { 3: "unreachable", 11: "time exceeded", 12: "parameter problem" };
const ICMP_PORT: Record<number, string> = { 3: "port unreachable", 4: "fragmentation needed" };
const ICMP6_ERRORS: Record<number, string> = { 1: "unreachable", 2: "packet too big", 3: "time exceeded" };

function icmpError(r: FlowRecord): string {
  if (r.kind !== "icmp_error") return "";
  const [type, code] = [r.icmp_type ?? 0, r.icmp_code ?? 0];
  const v6 = r.src_ip.includes(":");
  const port = v6 ? type === 1 && code === 4 && ICMP_PORT[3] : type === 3 && ICMP_PORT[code];
  const text = port || (v6 ? ICMP6_ERRORS : ICMP_ERRORS)[type] || `ICMP type ${type}`;
  return `${text} (from ${r.icmp_ip ?? "?"})`;
}

/** What the packets were in, such as "in vxlan 42". */
const wrapping = (r: FlowRecord): string => (r.tunnel ? `in ${r.tunnel} ${r.tunnel_id ?? ""}`.trim() : "");

/** "fin_source" -> "closed by source"; what is no such pair stays as it is. */
const closed = (reason: string): string => reason.replace(/^fin_/, "closed by ").replace(/^reset_/, "reset by ");

/** Both directions; a record that only tells of an event counts nothing. */
export function pair(there: number, back: number, text: (n: number) => string): string {
  if (there === 0 && back === 0) return "";
  return back === 0 ? text(there) : `${text(there)} / ${text(back)}`;
}

export const packetsText = (r: FlowRecord): string => pair(r.packets, r.reply_packets, short);

export const bytesText = (r: FlowRecord): string => pair(r.bytes, r.reply_bytes, bytes);

/** What the number of such a loss counts, and what became of it; else it is records, lost. As in flowobs/cli/output.py. */
const LOST: Record<string, [string, string]> = {
  map_full: ["packet", "in no flow"],
  retransmits_full: ["retransmit", "on no record"],
};

export function lostText(r: FlowRecord): string {
  const [what, fate] = LOST[r.drop_reason ?? ""] ?? ["record", "lost"];
  const where = r.node ? ` on ${r.node}` : "";
  const why = r.drop_reason ? ` (${r.drop_reason})` : "";
  return r.lost ? `${plural(r.lost, what)} ${fate}${where}${why}` : `Records may be missing${where}${why}`;
}

export const ICONS: Record<Severity, string> = { bad: "✕", warn: "↻", lost: "⚠", ok: "" };

/** One sentence for a screen reader and for the tooltip. */
export function sentence(r: FlowRecord): string {
  const { source, destination } = ends(r);
  const why = reason(r);
  return (
    `${r.time}: ${r.kind}, ${r.verdict}${why ? ` (${why})` : ""}, ${r.proto} ${source.full} to ${destination.full}, ` +
    `${count(r.packets)} and ${count(r.reply_packets)} packets, seen ${r.reporter === "transit" ? "in transit" : `at the ${r.reporter}`}` +
    `${r.node ? ` on ${r.node}` : ""}${r.interface ? ` ${r.interface}` : ""}`
  );
}
