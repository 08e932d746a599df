// Where nodes stand: forces that read from left to right, keep namespaces together and apart from each other, and
// leave room for labels. Pure and deterministic; runs in worker.ts.

import {
  forceLink,
  forceManyBody,
  forceSimulation,
  forceX,
  forceY,
  type SimulationLinkDatum,
  type SimulationNodeDatum,
} from "d3-force";
import { unit } from "./hash";
import { clearLinks } from "./clear";
import { separateBoxes, type Box } from "./separate";

export interface LayoutNode {
  id: string;
  group: string;
  rank: number;
  /** Room that the node takes with its label. */
  width: number;
  height: number;
  /** Where it stood before, if it did. */
  x?: number;
  y?: number;
  pinned?: boolean;
}

export interface LayoutInput {
  nodes: LayoutNode[];
  links: { source: string; target: string }[];
}

export interface Point {
  x: number;
  y: number;
}

interface Body extends SimulationNodeDatum {
  node: LayoutNode;
  anchor: Point | undefined;
  x: number;
  y: number;
}

const COLUMN = 190;
/** What a node takes with the space around it, and how much wider than high a map should be. */
const ROOM = 150 * 120;
const SCREEN = 2.6;
const GROUP_PADDING = { x: 34, top: 44, bottom: 30 };
const ALONE_PADDING = { x: 10, top: 8, bottom: 8 };
const COLD_TICKS = 300;
const WARM_TICKS = 60;

/** How far ranks are apart. A long chain of calls in a crowd would be a thin band: its columns are narrower. */
function columnWidth(nodes: readonly LayoutNode[]): number {
  const last = Math.max(1, ...nodes.map((n) => n.rank));
  const wide = Math.sqrt(nodes.length * ROOM * SCREEN);
  return last * COLUMN > 1.6 * wide ? wide / last : COLUMN;
}

export function layout(input: LayoutInput): Map<string, Point> {
  const known = new Map(input.nodes.filter((n) => n.x !== undefined).map((n) => [n.id, n]));
  const warm = known.size > 0;
  const column = columnWidth(input.nodes);
  const bodies = input.nodes.map((node): Body => {
    const at = node.x !== undefined && node.y !== undefined ? { x: node.x, y: node.y } : undefined;
    const start = at ?? seed(node, input, known, column);
    const body: Body = { node, anchor: at, x: start.x, y: start.y };
    if (node.pinned && at) Object.assign(body, { fx: at.x, fy: at.y });
    return body;
  });
  const byId = new Map(bodies.map((b) => [b.node.id, b]));
  const links = input.links
    .filter((l) => l.source !== l.target && byId.has(l.source) && byId.has(l.target))
    .map((l): SimulationLinkDatum<Body> => ({ source: byId.get(l.source)!, target: byId.get(l.target)! }));

  const ticks = warm ? WARM_TICKS : COLD_TICKS;
  const simulation = forceSimulation(bodies)
    .stop()
    .alphaDecay(1 - 0.001 ** (1 / ticks))
    .force("link", forceLink(links).distance(COLUMN).strength(0.12))
    .force("charge", forceManyBody<Body>().strength(-420).distanceMax(600))
    // What already stands somewhere stays about there: people remember places.
    .force("x", forceX<Body>((b) => b.anchor?.x ?? b.node.rank * column).strength((b) => (b.anchor ? 0.9 : 0.35)))
    .force("y", forceY<Body>((b) => b.anchor?.y ?? 0).strength((b) => (b.anchor ? 0.9 : 0.1)))
    .force("cluster", cluster(bodies))
    .force("clear", clearLinks(links))
    .force("room", () => separateNodes(bodies))
    .force("groups", () => separateGroups(bodies));
  simulation.tick(ticks);
  for (let i = 0; i < 20; i++) {
    separateNodes(bodies, 1);
    separateGroups(bodies, 1);
  }
  return new Map(bodies.map((b) => [b.node.id, { x: Math.round(b.x), y: Math.round(b.y) }]));
}

/** A new node starts beside those it talks to, in an empty map by its rank and its name's hash. */
function seed(node: LayoutNode, input: LayoutInput, known: ReadonlyMap<string, LayoutNode>, column: number): Point {
  const jitter = { x: (unit(`x${node.id}`) - 0.5) * 40, y: (unit(`y${node.id}`) - 0.5) * 120 };
  const near = input.links.flatMap((l) => {
    const before = l.target === node.id ? known.get(l.source) : undefined;
    const after = l.source === node.id ? known.get(l.target) : undefined;
    if (before) return [{ x: before.x! + column, y: before.y! }];
    return after ? [{ x: after.x! - column, y: after.y! }] : [];
  });
  if (near.length === 0) {
    const band = node.group ? (unit(node.group) - 0.5) * 500 : 0;
    return { x: node.rank * column + jitter.x, y: band + jitter.y * 2 };
  }
  return {
    x: near.reduce((s, p) => s + p.x, 0) / near.length + jitter.x,
    y: near.reduce((s, p) => s + p.y, 0) / near.length + jitter.y,
  };
}

function byGroup(bodies: readonly Body[]): Map<string, Body[]> {
  const groups = new Map<string, Body[]>();
  for (const body of bodies) {
    const key = body.node.group || `\0${body.node.id}`;
    const group = groups.get(key);
    if (group) group.push(body);
    else groups.set(key, [body]);
  }
  return groups;
}

/** Pulls the members of a namespace together, more in height than in width: width tells the rank. */
function cluster(bodies: readonly Body[]) {
  const groups = [...byGroup(bodies).values()].filter((members) => members.length > 1);
  return (alpha: number) => {
    for (const members of groups) {
      const x = members.reduce((s, b) => s + b.x, 0) / members.length;
      const y = members.reduce((s, b) => s + b.y, 0) / members.length;
      for (const b of members) {
        b.vx = (b.vx ?? 0) + (x - b.x) * alpha * 0.06;
        b.vy = (b.vy ?? 0) + (y - b.y) * alpha * 0.14;
      }
    }
  };
}

function push(body: Body, dx: number, dy: number): void {
  if (body.fx == null) body.x += dx;
  if (body.fy == null) body.y += dy;
}

function separateNodes(bodies: readonly Body[], share = 0.5): void {
  const boxes = bodies.map((b): Box => {
    const w = b.node.width / 2;
    return { left: b.x - w, right: b.x + w, top: b.y - 20, bottom: b.y - 20 + b.node.height };
  });
  separateBoxes(boxes, share, (i, dx, dy) => push(bodies[i]!, dx, dy));
}

function separateGroups(bodies: readonly Body[], share = 0.3): void {
  const groups = [...byGroup(bodies).values()];
  const boxes = groups.map((members): Box => {
    const padding = members[0]!.node.group ? GROUP_PADDING : ALONE_PADDING;
    return {
      left: Math.min(...members.map((b) => b.x - b.node.width / 2)) - padding.x,
      right: Math.max(...members.map((b) => b.x + b.node.width / 2)) + padding.x,
      top: Math.min(...members.map((b) => b.y)) - padding.top,
      bottom: Math.max(...members.map((b) => b.y - 20 + b.node.height)) + padding.bottom,
    };
  });
  // Screens are wide: groups rather stand beside each other than one below the other.
  separateBoxes(boxes, share, (i, dx, dy) => groups[i]!.forEach((b) => push(b, dx, dy)), 1.8);
}
