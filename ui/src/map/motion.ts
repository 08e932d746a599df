import type { View } from "./geometry";
import type { Point } from "./layout";

export const still = matchMedia("(prefers-reduced-motion: reduce)");

const MILLISECONDS = 450;

export interface Move {
  start: number;
  from: Map<string, Point>;
  to: Map<string, Point>;
  viewFrom: View;
  viewTo: View | undefined;
}

const ease = (t: number): number => 1 - (1 - t) ** 3;

const between = (a: number, b: number, t: number): number => a + (b - a) * t;

/** How far a move is at `time`: 1 when done, and at once for those who asked for less motion. */
export const progress = (move: Move, time: number): number =>
  still.matches ? 1 : ease(Math.min(1, Math.max(0, (time - move.start) / MILLISECONDS)));

export function moveNodes(move: Move, t: number, places: Map<string, Point>): void {
  for (const id of places.keys()) if (!move.to.has(id)) places.delete(id);
  for (const [id, to] of move.to) {
    const from = move.from.get(id) ?? to;
    places.set(id, { x: between(from.x, to.x, t), y: between(from.y, to.y, t) });
  }
}

export function moveView({ viewFrom: a, viewTo: b }: Move, t: number): View | undefined {
  return b && { k: between(a.k, b.k, t), x: between(a.x, b.x, t), y: between(a.y, b.y, t) };
}
