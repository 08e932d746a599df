import { quadtree, type Quadtree } from "d3-quadtree";
import { along, RADIUS, type Curve } from "./geometry";
import type { Point } from "./layout";

export type Target = { type: "node"; id: string } | { type: "link"; key: string };

interface Spot extends Point {
  target: Target;
}

export interface HitIndex {
  nodes: Quadtree<Spot>;
  links: Quadtree<Spot>;
}

const SAMPLES = 14;

/** Nodes by their middle, links by points along their curve. */
export function hitIndex(nodes: ReadonlyMap<string, Point>, curves: ReadonlyMap<string, Curve>): HitIndex {
  const tree = () =>
    quadtree<Spot>()
      .x((s) => s.x)
      .y((s) => s.y);
  return {
    nodes: tree().addAll([...nodes].map(([id, { x, y }]) => ({ x, y, target: { type: "node", id } }))),
    links: tree().addAll(
      [...curves].flatMap(([key, curve]) =>
        Array.from({ length: SAMPLES + 1 }, (_, i) => ({
          ...along(curve, i / SAMPLES),
          target: { type: "link", key } as const,
        })),
      ),
    ),
  };
}

/** What is under a point of the map; `scale` keeps targets of a finger's size when zoomed out. */
export function hit(index: HitIndex, at: Point, scale: number): Target | undefined {
  const node = index.nodes.find(at.x, at.y, Math.max(RADIUS + 3, 12 / scale));
  return (node ?? index.links.find(at.x, at.y, Math.max(10, 9 / scale)))?.target;
}
