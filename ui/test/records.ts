import type { FlowRecord, MapEdge, ServiceMap } from "../src/api/types";

export const record = (fields: Partial<FlowRecord> = {}): FlowRecord => ({
  time: "2026-01-02T03:04:05.678901234Z",
  kind: "update",
  verdict: "forwarded",
  reporter: "source",
  proto: "tcp",
  src_ip: "10.88.0.10",
  dst_ip: "10.88.0.20",
  src_port: 40000,
  dst_port: 8080,
  packets: 3,
  bytes: 1200,
  reply_packets: 2,
  reply_bytes: 4000,
  src_kind: "pod",
  src_namespace: "shop",
  src_name: "web-0",
  dst_kind: "pod",
  dst_namespace: "shop",
  dst_name: "api-1",
  ...fields,
});

export const edge = (source: string, destination: string, fields: Partial<MapEdge> = {}): MapEdge => ({
  source,
  destination,
  proto: "tcp",
  port: 8080,
  flows: 1,
  closes: 1,
  packets: 10,
  bytes: 1000,
  reply_packets: 8,
  reply_bytes: 9000,
  drops: 0,
  resets: 0,
  retransmits: 0,
  fails: 0,
  connect_ms: null,
  rtt_ms: null,
  drop_reasons: {},
  reporter: "source",
  first_seen: "2026-01-02T03:00:00Z",
  last_seen: "2026-01-02T03:04:00Z",
  ...fields,
});

export const serviceMap = (edges: MapEdge[]): ServiceMap => ({
  from: "2026-01-02T03:00:00Z",
  to: "2026-01-02T03:05:00Z",
  nodes: [...new Set(edges.flatMap((e) => [e.source, e.destination]))].map((id) => {
    const [namespace, name] = id.split("/");
    return name ? { id, kind: "pod", namespace: namespace!, name } : { id, kind: "world", addresses: [id] };
  }),
  edges,
});
