import type { FlowRecord } from "../api/types";

/** The id of one end, by the same rule as the service map's nodes (docs/api.md). */
export function endId(kind: string | undefined, namespace: string | undefined, name: string | undefined, ip: string) {
  if (!name) return ip;
  return namespace && (kind === "pod" || kind === "service") ? `${namespace}/${name}` : name;
}

export function recordEnds(r: FlowRecord): { source: string; destination: string } {
  return {
    source: endId(r.src_kind, r.src_namespace, r.src_name, r.src_ip),
    destination: endId(r.dst_kind, r.dst_namespace, r.dst_name, r.dst_ip),
  };
}
