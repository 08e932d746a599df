// What ends are put together by, as the relay does it (docs/api.md, relay/store/names.py). Pure.

import type { FlowRecord, MapNode, ServiceMap } from "../api/types";

export const GROUPS = [
  "pod",
  "workload",
  "service",
  "namespace",
  "node",
  "zone",
  "cluster",
  "process",
  "address",
] as const;

/** One of GROUPS, or `label:KEY`. */
export type Group = (typeof GROUPS)[number] | `label:${string}`;

export const LABEL = "label:";

export const parseGroup = (text: string | null): Group =>
  GROUPS.includes(text as (typeof GROUPS)[number]) || (text !== LABEL && text?.startsWith(LABEL))
    ? (text as Group)
    : "pod";

export const labelKey = (group: Group): string | undefined =>
  group.startsWith(LABEL) ? group.slice(LABEL.length) : undefined;

/** Whether all of a group is in one namespace. */
export const inNamespace = (group: Group): boolean =>
  ["pod", "workload", "service", "namespace", "process"].includes(group);

/** What is known of one end, on a record or on the map. */
type End = Partial<Pick<MapNode, "kind" | "cluster" | "namespace" | "name" | "workload" | "service" | "node" | "zone">>;

/** Nobody owns the addresses of unnamed groups of receivers: each is one node. */
const RECEIVERS: readonly [pattern: RegExp, id: string][] = [
  [/^(22[4-9]|23\d)\.|^ff[0-9a-f]{2}:/, "multicast"],
  [/^255\.255\.255\.255$/, "broadcast"],
];

/** The id of an end that stands for itself. */
export function ownId(end: End, ip: string): string {
  const { kind, namespace, name, workload } = end;
  if (!name) return kind === "world" ? "world" : (RECEIVERS.find(([pattern]) => pattern.test(ip))?.[1] ?? ip);
  if (namespace && (kind === "pod" || kind === "service")) return `${namespace}/${name}`;
  return kind === "host" && workload ? `${name}/${workload}` : name;
}

/** What has no such attribute stands for itself. */
function idOf(group: Group, end: End, ip: string, process = "", labels = ""): string {
  const own = ownId(end, ip);
  switch (group) {
    case "pod":
      return own;
    case "address":
      return ip;
    case "process":
      return process ? `${own} ${process}` : own;
    case "workload":
    case "service":
      return end[group] && end.namespace ? `${end.namespace}/${end[group]}` : own;
    case "namespace":
    case "node":
    case "zone":
    case "cluster":
      return end[group] || own;
  }
  const start = `${labelKey(group)}=`;
  const label = labels.split(",").find((text) => text.startsWith(start) && text !== start);
  return label ?? own;
}

export function endId(r: FlowRecord, side: "src" | "dst", group: Group = "pod"): string {
  const end: End = {};
  for (const name of ["kind", "cluster", "namespace", "name", "workload", "service", "node", "zone"] as const) {
    const value = r[`${side}_${name}`];
    if (value) end[name] = value;
  }
  return idOf(group, end, r[`${side}_ip`], r[`${side}_process`], r[`${side}_labels`]);
}

export const recordEnds = (r: FlowRecord, group: Group = "pod"): { source: string; destination: string } => ({
  source: endId(r, "src", group),
  destination: endId(r, "dst", group),
});

const KINDS: Partial<Record<Group, string>> = { service: "service", node: "node" };

/** The relay describes a node by its newest end: of several ends, only what they have in common is kept. */
function described(node: MapNode, group: Group): MapNode {
  // An address has no spaces, and a process of it follows one.
  const own = ownId(node, node.addresses?.length === 1 ? node.addresses[0]! : node.id.split(" ", 1)[0]!);
  if (node.id === own || group === "address") return node;
  if (group === "process") {
    const process = node.id.slice(own.length + 1);
    return { ...node, name: `${node.name || own} ${process}`, process };
  }
  const kind = KINDS[group] ?? "group";
  const common: MapNode = { id: node.id, kind, name: node.id, addresses: node.addresses ?? [] };
  if (node.cluster) common.cluster = node.cluster;
  if (group === "zone" || group === "node") return node.zone ? { ...common, zone: node.zone } : common;
  if (!inNamespace(group) || !node.namespace) return common;
  const name = group === "namespace" ? node.namespace : node[group as "workload" | "service"]!;
  return { ...common, namespace: node.namespace, name };
}

/** A map whose nodes are what they stand for. */
export function grouped(map: ServiceMap): ServiceMap {
  const group = parseGroup(map.group ?? null);
  return group === "pod" ? map : { ...map, nodes: map.nodes.map((node) => described(node, group)) };
}
