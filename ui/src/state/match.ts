import type { FlowRecord, MapEdge, MapNode } from "../api/types";

/** Words that must all occur; an empty search matches everything. */
export function words(search: string): string[] {
  return search.toLowerCase().split(/\s+/).filter(Boolean);
}

export const matches = (wanted: readonly string[], text: string): boolean =>
  wanted.every((word) => text.includes(word));

const join = (parts: readonly (string | number | undefined)[]): string =>
  parts.filter((part) => part !== undefined && part !== "").join(" ").toLowerCase();

export const nodeText = (n: MapNode): string =>
  join([n.id, n.kind, n.workload, n.service, n.node, ...(n.addresses ?? [])]);

export function edgeSearchText(e: MapEdge, nodes: ReadonlyMap<string, MapNode>): string {
  const [source, destination] = [nodes.get(e.source), nodes.get(e.destination)];
  return join([
    source ? nodeText(source) : e.source,
    destination ? nodeText(destination) : e.destination,
    e.proto,
    `:${e.port}`,
    ...Object.keys(e.drop_reasons),
    e.resets ? "reset" : "",
    e.fails ? "fail" : "",
    e.drops ? "drop" : "",
    e.retransmits ? "retransmit" : "",
  ]);
}

export const recordText = (r: FlowRecord): string =>
  join([
    r.src_namespace && r.src_name ? `${r.src_namespace}/${r.src_name}` : r.src_name,
    r.dst_namespace && r.dst_name ? `${r.dst_namespace}/${r.dst_name}` : r.dst_name,
    r.src_ip,
    r.dst_ip,
    r.src_port && `:${r.src_port}`,
    r.dst_port && `:${r.dst_port}`,
    r.proto,
    r.kind,
    r.verdict,
    r.drop_reason,
    r.close_reason,
    r.node,
    r.interface,
    r.src_workload,
    r.dst_workload,
    r.src_service,
    r.dst_service,
    r.src_process,
    r.dst_process,
  ]);
