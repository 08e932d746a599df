// A crowded map opens folded: a namespace is one node, and so are the many addresses that nobody has named. Pure.

import type { MapEdge, MapNode, ServiceMap } from "../api/types";
import { path, slowest, sum } from "./totals";

/** Above this many nodes, namespaces are folded. */
const CROWD = 60;
/** Above this many, addresses without a name are. */
const STRANGERS = 8;

export const OUTSIDE = "(addresses)";

/** Also what the API and `flows --pod` understand. */
export const everyPod = (namespace: string): string => `${namespace}/*`;

export const isAddress = (id: string): boolean => /^[0-9.]+$/.test(id) || /^[0-9a-f:.]*:[0-9a-f:.]*$/.test(id);

/** Whether the node `group` stands for `id`. */
export function covers(group: string, id: string): boolean {
  if (group === id) return true;
  if (group === OUTSIDE) return isAddress(id);
  return group.endsWith("/*") && id.startsWith(group.slice(0, -1));
}

export interface Folded {
  map: ServiceMap;
  /** The node that stands for an id. */
  of: (id: string) => string;
}

/** `open` is the namespace that somebody looks into: it stays unfolded. */
export function fold(map: ServiceMap, open: string): Folded {
  const strangers = map.nodes.filter((n) => !n.name && isAddress(n.id));
  const groups = new Map<string, string>();
  if (strangers.length > STRANGERS) for (const node of strangers) groups.set(node.id, OUTSIDE);
  if (map.nodes.length - groups.size > CROWD) {
    for (const node of map.nodes) {
      const foldable = node.namespace && node.namespace !== open && node.id.startsWith(`${node.namespace}/`);
      if (foldable) groups.set(node.id, everyPod(node.namespace!));
    }
  }
  const of = (id: string) => groups.get(id) ?? id;
  return groups.size === 0 ? { map, of } : { map: { ...map, nodes: nodes(map, of), edges: edges(map, of) }, of };
}

function nodes(map: ServiceMap, of: Folded["of"]): MapNode[] {
  const members = new Map<string, MapNode[]>();
  for (const node of map.nodes) {
    const id = of(node.id);
    const group = members.get(id);
    if (group) group.push(node);
    else members.set(id, [node]);
  }
  return [...members].map(([id, all]): MapNode => {
    const first = all[0]!;
    if (id === first.id) return first;
    if (id === OUTSIDE) return { id, kind: "group", name: `${all.length} addresses` };
    const name = all.length === 1 ? first.name! : `${all.length} members`;
    return { id, kind: "group", namespace: first.namespace!, name };
  });
}

function edges(map: ServiceMap, of: Folded["of"]): MapEdge[] {
  const merged = new Map<string, MapEdge>();
  for (const edge of map.edges) {
    const [source, destination] = [of(edge.source), of(edge.destination)];
    const key = `${source}->${destination}:${edge.port}/${edge.proto}`;
    const before = merged.get(key);
    merged.set(key, before ? add(before, edge) : { ...edge, source, destination });
  }
  return [...merged.values()];
}

function add(a: MapEdge, b: MapEdge): MapEdge {
  const reasons = { ...a.drop_reasons };
  for (const [reason, n] of Object.entries(b.drop_reasons)) reasons[reason] = (reasons[reason] ?? 0) + n;
  return {
    ...a,
    ...sum([a, b]),
    closes: a.closes + b.closes,
    ...slowest([a, b]),
    ...path([a, b]),
    drop_reasons: reasons,
    first_seen: a.first_seen < b.first_seen ? a.first_seen : b.first_seen,
    last_seen: a.last_seen > b.last_seen ? a.last_seen : b.last_seen,
  };
}
