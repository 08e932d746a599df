import type { FlowRecord } from "../api/types";

/** Unnamed groups of receivers are one node each: nobody owns those addresses. */
const GROUPS: readonly [pattern: RegExp, id: string][] = [
  [/^(22[4-9]|23\d)\.|^ff[0-9a-f]{2}:/, "multicast"],
  [/^255\.255\.255\.255$/, "broadcast"],
];

/** The id of one end, by the same rule as the service map's nodes (docs/api.md). */
export function endId(r: FlowRecord, side: "src" | "dst"): string {
  const [kind, namespace, name, workload] = [r[`${side}_kind`], r[`${side}_namespace`], r[`${side}_name`], r[`${side}_workload`]];
  const ip = r[`${side}_ip`];
  if (!name) return GROUPS.find(([pattern]) => pattern.test(ip))?.[1] ?? ip;
  if (namespace && (kind === "pod" || kind === "service")) return `${namespace}/${name}`;
  return kind === "host" && workload ? `${name}/${workload}` : name;
}

export function recordEnds(r: FlowRecord): { source: string; destination: string } {
  return { source: endId(r, "src"), destination: endId(r, "dst") };
}
