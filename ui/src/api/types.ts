// The relay's HTTP API as docs/api.md and flowobs/schema.py have it; tests/ui/test_contract.py compares the names.

export const KINDS = ["open", "update", "close", "drop", "retransmit", "reset", "fail", "lost", "icmp_error"] as const;
export type Kind = (typeof KINDS)[number];

export const ENDPOINT_KINDS = [
  "unknown",
  "pod",
  "service",
  "node",
  "host",
  "vm",
  "external",
  "world",
  "container",
] as const;
export type EndpointKind = (typeof ENDPOINT_KINDS)[number];

/** Numbers without a name come as digits, so every enum may also be any string. */
type Open<T extends string> = T | (string & {});

export interface FlowRecord {
  time: string;
  kind: Open<Kind>;
  verdict: string;
  reporter: string;
  reply?: number;
  proto: string;
  src_ip: string;
  dst_ip: string;
  src_port?: number;
  dst_port?: number;
  icmp_type?: number;
  icmp_code?: number;
  vlan?: number;
  interface?: string;
  node?: string;
  packets: number;
  bytes: number;
  reply_packets: number;
  reply_bytes: number;
  tcp_flags?: number;
  reply_tcp_flags?: number;
  duration?: number;
  drop_reason?: string;
  close_reason?: string;
  lost?: number;
  src_cookie?: number;
  dst_cookie?: number;
  src_cgroup?: number;
  dst_cgroup?: number;
  src_pid?: number;
  dst_pid?: number;
  src_process?: string;
  dst_process?: string;
  connect_ns?: number;
  src_rtt_ns?: number;
  dst_rtt_ns?: number;
  src_srtt_us?: number;
  dst_srtt_us?: number;
  retransmits?: number;
  reply_retransmits?: number;
  zero_windows?: number;
  reply_zero_windows?: number;
  netns?: number;
  virtual_ip?: string;
  virtual_port?: number;
  snat_ip?: string;
  snat_port?: number;
  src_identity_age?: number;
  dst_identity_age?: number;
  tunnel?: string;
  tunnel_id?: number;
  tunnel_src_ip?: string;
  tunnel_dst_ip?: string;
  cast?: string;
  icmp_ip?: string;
  src_kind?: Open<EndpointKind>;
  src_cluster?: string;
  src_namespace?: string;
  src_name?: string;
  src_workload?: string;
  src_workload_kind?: string;
  src_service?: string;
  src_node?: string;
  src_container?: string;
  src_identity_source?: string;
  src_zone?: string;
  src_labels?: string;
  src_services?: string;
  src_identity?: number;
  dst_kind?: Open<EndpointKind>;
  dst_cluster?: string;
  dst_namespace?: string;
  dst_name?: string;
  dst_workload?: string;
  dst_workload_kind?: string;
  dst_service?: string;
  dst_node?: string;
  dst_container?: string;
  dst_identity_source?: string;
  dst_zone?: string;
  dst_labels?: string;
  dst_services?: string;
  dst_identity?: number;
}

export interface MapNode {
  id: string;
  kind?: Open<EndpointKind>;
  cluster?: string;
  namespace?: string;
  name?: string;
  workload?: string;
  workload_kind?: string;
  service?: string;
  node?: string;
  zone?: string;
  addresses?: string[];
  /** Told by the page, of a map by process. */
  process?: string;
}

export interface MapEdge {
  source: string;
  destination: string;
  proto: string;
  port: number;
  flows: number;
  opens: number;
  closes: number;
  packets: number;
  bytes: number;
  reply_packets: number;
  reply_bytes: number;
  drops: number;
  resets: number;
  retransmits: number;
  fails: number;
  /** Median and other quantiles; null where none tells. */
  connect_ms: number | null;
  connect_p95_ms: number | null;
  connect_p99_ms: number | null;
  rtt_ms: number | null;
  rtt_p95_ms: number | null;
  rtt_p99_ms: number | null;
  /** What each side counted; null where only one told. */
  sent_packets: number | null;
  sent_bytes: number | null;
  arrived_packets: number | null;
  arrived_bytes: number | null;
  reply_sent_packets: number | null;
  reply_sent_bytes: number | null;
  reply_arrived_packets: number | null;
  reply_arrived_bytes: number | null;
  path_loss: number | null;
  drop_reasons: Record<string, number>;
  reporter: string;
  first_seen: string;
  last_seen: string;
}

export interface ServiceMap {
  from: string;
  to: string;
  /** The first moment of this time that the store has; null: none. */
  covered_from?: string | null;
  /** The coarsest table the answer was made of: flows, flows_1m or flows_1h. */
  table?: string;
  group?: string;
  nodes: MapNode[];
  edges: MapEdge[];
  /** There are more edges than one answer holds: those with trouble and the busiest are here. */
  more?: boolean;
}

/** A measure in steps of time. */
export interface TimeSeries {
  from: string;
  to: string;
  /** From when on the store has it; null where it has nothing of that time. */
  covered_from: string | null;
  table: string;
  group: string;
  by: string;
  measure: string;
  unit: string;
  step_s: number;
  /** Starts of the steps. */
  at: string[];
  /** One in all, unless asked for more; a value is null where nothing is known. */
  series: { values: (number | null)[] }[];
}

export interface StoreStatus {
  url: string;
  engine: string;
  healthy: boolean;
  rows: number | null;
  bytes: number | null;
  /** Bytes of each table. */
  tables: Record<string, number> | null;
  oldest: string | null;
  newest: string | null;
  retention: string;
  /** Tables that the disk's budget keeps shorter than `retention` says: since when they have all. */
  dropped_early: { table: string; since: string; wanted_s: number }[];
  lag_s: number | null;
  /** Rows taken that are not in the store yet. */
  queued: number;
  error: string | null;
}

export interface LiveStatus {
  subscribers: number;
  buffered: number;
  oldest: string | null;
}

export interface AgentStatus {
  agent: string;
  node: string;
  connected: boolean;
  version: string;
  last_seen: string;
  rows: number;
  lost: number;
  /** How old the oldest names on its latest records are; 0: up to date. */
  names_age_s: number;
}

/** What the relay knows of a resource of the cluster it watches. */
export interface ResourceStatus {
  resource: string;
  objects: number;
  age_s: number | null;
  stale: boolean;
  off: boolean;
  problem: string;
}

export interface IdentityStatus {
  cluster: string;
  ready: boolean;
  version: number;
  requests: number;
  resources: ResourceStatus[];
  agents: unknown[];
}

export interface Status {
  version: string;
  uptime_s: number;
  store: StoreStatus;
  live: LiveStatus;
  agents: AgentStatus[];
  /** Null where the relay watches no cluster. */
  identity: IdentityStatus | null;
  lost: Record<string, number>;
}

export interface Hints {
  /** The column, from 1, from where on a hint replaces what is typed. */
  start: number;
  field: string;
  hints: { text: string; count?: number; about?: string }[];
}
