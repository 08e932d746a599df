import type { FlowRecord } from "../api/types";

/** Unnamed groups of receivers are one node each: nobody owns those addresses. */
const GROUPS: readonly [pattern: RegExp, id: string][] = [
  [/^(22[4-9]|23\d)\.|^ff[0-9a-f]{2}:/, "multicast"],
  [/^255\.255\.255\.255$/, "broadcast"],
];

/** The id of one end, by the same rule as the service map's nodes (docs/api.md). */
export function endId(kind: string | undefined, namespace: string | undefined, name: string | undefined, ip: string) {
  if (!name) return GROUPS.find(([pattern]) => pattern.test(ip))?.[1] ?? ip;
  return namespace && (kind === "pod" || kind === "service") ? `${namespace}/${name}` : name;
}

export function recordEnds(r: FlowRecord): { source: string; destination: string } {
  return {
    source: endId(r.src_kind, r.src_namespace, r.src_name, r.src_ip),
    destination: endId(r.dst_kind, r.dst_namespace, r.dst_name, r.dst_ip),
  };
}
