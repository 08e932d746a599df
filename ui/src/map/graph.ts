// The service map as the canvas draws it: one line per pair of ends, whatever the number of ports. Pure.

import type { MapEdge, MapNode, ServiceMap } from "../api/types";
import { edgeText } from "../state/selection";
import { sum, troubles, type Totals } from "../state/totals";

export interface GraphNode {
  id: string;
  kind: string;
  /** Namespace it is drawn in; "" for what stands alone: ends without one, and a namespace itself. */
  group: string;
  /** Namespace whose colour it has. */
  hue: string;
  label: string;
  /** Distance from where traffic comes in, so that the map reads from left to right. */
  rank: number;
}

export interface GraphLink {
  key: string;
  source: string;
  destination: string;
  edges: MapEdge[];
  totals: Totals;
  bytesPerSecond: number;
  /** Drops, resets and failed connections. */
  bad: number;
}

export interface Graph {
  nodes: GraphNode[];
  links: GraphLink[];
}

export const label = (node: MapNode): string => node.name || node.id;

export function buildGraph(map: ServiceMap, seconds: number): Graph {
  const pairs = new Map<string, MapEdge[]>();
  for (const edge of map.edges) {
    const key = edgeText(edge.source, edge.destination);
    const edges = pairs.get(key);
    if (edges) edges.push(edge);
    else pairs.set(key, [edge]);
  }
  const links = [...pairs].map(([key, edges]): GraphLink => {
    const totals = sum(edges);
    const { source, destination } = edges[0]!;
    const bytesPerSecond = (totals.bytes + totals.reply_bytes) / seconds;
    return { key, source, destination, edges, totals, bytesPerSecond, bad: troubles(totals) };
  });

  const nodes = new Map(map.nodes.map((node) => [node.id, node]));
  for (const { source, destination } of links) {
    for (const id of [source, destination]) if (!nodes.has(id)) nodes.set(id, { id });
  }
  const rank = ranks([...nodes.keys()], links);
  return {
    nodes: [...nodes.values()].map((node) => ({
      id: node.id,
      kind: node.kind ?? "unknown",
      group: node.id === node.namespace ? "" : (node.namespace ?? ""),
      hue: node.namespace ?? "",
      label: label(node),
      rank: rank.get(node.id) ?? 0,
    })),
    links,
  };
}

/** Longest way from a node that nobody calls; links that would close a circle are left out. */
export function ranks(
  ids: readonly string[],
  links: readonly { source: string; destination: string }[],
): Map<string, number> {
  const out = new Map<string, string[]>(ids.map((id) => [id, []]));
  const callers = new Map<string, number>(ids.map((id) => [id, 0]));
  for (const { source, destination } of links) {
    if (source === destination) continue;
    out.get(source)?.push(destination);
    callers.set(destination, (callers.get(destination) ?? 0) + 1);
  }
  const sorted = [...ids].sort();
  // Those whom nobody calls first: a circle is then entered where traffic enters it.
  const order = [...sorted.filter((id) => callers.get(id) === 0), ...sorted];

  const done: string[] = [];
  const state = new Map<string, "open" | "done">();
  const forward = new Map<string, string[]>(ids.map((id) => [id, []]));
  for (const start of order) {
    if (state.has(start)) continue;
    const stack: { id: string; next: number }[] = [{ id: start, next: 0 }];
    state.set(start, "open");
    while (stack.length > 0) {
      const top = stack[stack.length - 1]!;
      const to = out.get(top.id)![top.next++];
      if (to === undefined) {
        state.set(top.id, "done");
        done.push(top.id);
        stack.pop();
      } else if (state.get(to) !== "open") {
        forward.get(top.id)!.push(to);
        if (!state.has(to)) {
          state.set(to, "open");
          stack.push({ id: to, next: 0 });
        }
      }
    }
  }
  const rank = new Map<string, number>(ids.map((id) => [id, 0]));
  for (const id of done.reverse()) {
    for (const to of forward.get(id)!) rank.set(to, Math.max(rank.get(to)!, rank.get(id)! + 1));
  }
  return rank;
}
