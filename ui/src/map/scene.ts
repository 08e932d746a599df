// What one picture of the map consists of, worked out from graph, places and view. Pure.

import { rate } from "../text/format";
import { along, clearCurve, hull, loop, RADIUS, type Curve, type Hull, type View } from "./geometry";
import { troubleParts, troubles, troubleText } from "../state/totals";
import type { Graph, GraphLink, GraphNode } from "./graph";
import { placeLabels, type LabelWish, type PlacedLabel } from "./labels";
import type { Point } from "./layout";
import type { Box } from "./separate";
import { edgeText } from "../state/selection";

/** What somebody points at or has picked: the rest steps back. */
export interface Emphasis {
  nodes: ReadonlySet<string>;
  links: ReadonlySet<string>;
}

export interface Scene {
  hulls: Hull[];
  curves: Map<string, Curve>;
  labels: { nodes: PlacedLabel[]; links: PlacedLabel[]; groups: PlacedLabel[] };
}

export interface SceneInput {
  graph: Graph;
  places: ReadonlyMap<string, Point>;
  view: View;
  texts: ReadonlyMap<string, { text: string; width: number }>;
  /** Ids and keys that the search leaves; undefined when there is no search. */
  shown: { nodes: ReadonlySet<string>; links: ReadonlySet<string> } | undefined;
  emphasis: Emphasis | undefined;
  measure: (text: string) => number;
}

export const LABEL_HEIGHT = 17;
/** Above this many pairs of a line and a node, lines cross nodes anyway, and each frame's time counts. */
const CROWD = 60_000;

export function curves(graph: Graph, places: ReadonlyMap<string, Point>): Map<string, Curve> {
  const keys = new Set(graph.links.map((l) => l.key));
  const result = new Map<string, Curve>();
  const others = places.size * graph.links.length > CROWD ? [] : [...places.values()];
  for (const link of graph.links) {
    const [a, b] = [places.get(link.source), places.get(link.destination)];
    if (!a || !b) continue;
    const both = keys.has(edgeText(link.destination, link.source));
    if (link.source === link.destination) result.set(link.key, loop(a));
    else result.set(link.key, clearCurve(a, b, both, others.filter((p) => p !== a && p !== b)));
  }
  return result;
}

export function hulls(graph: Graph, places: ReadonlyMap<string, Point>, texts: SceneInput["texts"]): Hull[] {
  const groups = new Map<string, { at: Point; halfWidth: number }[]>();
  for (const node of graph.nodes) {
    const at = places.get(node.id);
    if (node.group === "" || at === undefined) continue;
    const member = { at, halfWidth: Math.max(RADIUS, (texts.get(node.id)?.width ?? 0) / 2) };
    const members = groups.get(node.group);
    if (members) members.push(member);
    else groups.set(node.group, [member]);
  }
  return [...groups].map(([group, members]) => hull(group, members));
}

export function linkText(link: GraphLink): string {
  const ports = [...new Set(link.edges.map((e) => (e.port ? `:${e.port}` : e.proto)))];
  const port = ports.length > 2 ? `${ports.length} ports` : ports.join(" ");
  const trouble = troubles(link.totals) > 0 ? ` · ${troubleText(link.totals)}` : "";
  return `${port} · ${rate(link.bytesPerSecond)}${trouble}`;
}

export function scene(input: SceneInput): Scene {
  const { graph, places, view } = input;
  const drawn = curves(graph, places);
  const shapes = hulls(graph, places, input.texts);
  const toScreen = ({ x, y }: Point): Point => ({ x: x * view.k + view.x, y: y * view.k + view.y });

  // Labels keep their size whatever the zoom, so they are placed on the screen, around the nodes' discs.
  const obstacles = [...places.values()].map((place): Box => {
    const { x, y } = toScreen(place);
    const r = RADIUS * view.k + 1;
    return { left: x - r, right: x + r, top: y - r, bottom: y + r };
  });
  const groups = shapes.map(({ group, top }): LabelWish => {
    const at = toScreen(top);
    const width = input.measure(group) + 8;
    const y = at.y - 16 * view.k - 5;
    return { key: group, text: group, width, height: 18, places: [{ x: at.x, y }, { x: at.x, y: y - 12 }], priority: 1e9 };
  });
  const nodes = graph.nodes.flatMap((node): LabelWish[] => {
    const place = places.get(node.id);
    const label = input.texts.get(node.id);
    if (!place || !label || input.shown?.nodes.has(node.id) === false) return [];
    return [nodeWish(node, toScreen(place), label, view.k, input.emphasis)];
  });
  const links = graph.links.flatMap((link): LabelWish[] => {
    const path = drawn.get(link.key);
    if (!path || input.shown?.links.has(link.key) === false) return [];
    const emphasized = input.emphasis?.links.has(link.key) === true;
    if (!emphasized && (link.bad === 0 || view.k < 0.6)) return [];
    const text = emphasized ? linkText(link) : troubleText(link.totals);
    const width = input.measure(text) + 10;
    const first = `${troubleParts(link.totals)[0]} …`;
    const shorter = emphasized ? undefined : { text: first, width: input.measure(first) + 10 };
    // A badge on the line itself; where it would cover something, further along.
    const spots = [0.5, 0.4, 0.6, 0.3, 0.7].map((t) => toScreen(along(path, t)));
    return [{ key: link.key, text, width, ...(shorter && { shorter }), height: 18, places: spots, priority: emphasized ? 2e9 : 5e8 }];
  });
  return { hulls: shapes, curves: drawn, labels: placeTogether({ groups, nodes, links }, obstacles) };
}

/** All labels share the room, so they are placed in one go and then told apart again. */
function placeTogether(wishes: Record<keyof Scene["labels"], LabelWish[]>, obstacles: readonly Box[]): Scene["labels"] {
  const kinds = ["groups", "nodes", "links"] as const;
  const tagged = kinds.flatMap((kind) => wishes[kind].map((wish) => ({ ...wish, key: `${kind} ${wish.key}` })));
  const placed = placeLabels(tagged, obstacles);
  const of = (kind: string) =>
    placed
      .filter((label) => label.key.startsWith(`${kind} `))
      .map((label) => ({ ...label, key: label.key.slice(kind.length + 1) }));
  return { groups: of("groups"), nodes: of("nodes"), links: of("links") };
}

function nodeWish(
  node: GraphNode,
  at: Point,
  label: { text: string; width: number },
  k: number,
  emphasis: Emphasis | undefined,
): LabelWish {
  const r = RADIUS * k + 3;
  const side = r + label.width / 2 + 4;
  const emphasized = emphasis?.nodes.has(node.id) === true;
  return {
    key: node.id,
    text: label.text,
    width: label.width + 4,
    height: LABEL_HEIGHT,
    places: [
      { x: at.x, y: at.y + r + LABEL_HEIGHT / 2 },
      { x: at.x, y: at.y - r - LABEL_HEIGHT / 2 },
      { x: at.x + side, y: at.y },
      { x: at.x - side, y: at.y },
    ],
    priority: emphasized ? 1e8 : -node.rank,
    always: emphasized,
  };
}
