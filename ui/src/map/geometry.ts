// Curves of links and outlines of groups, in the map's own coordinates. Pure.

import { polygonHull } from "d3-polygon";
import type { Point } from "./layout";

export const RADIUS = 14;

export interface Curve {
  from: Point;
  control: Point;
  to: Point;
  /** Direction of travel at the end, for the arrow head. */
  angle: number;
}

/** From border to border. Links that also exist the other way bend further, so that the two do not touch. */
export function curve(a: Point, b: Point, bend: number, gap = 4): Curve {
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const length = Math.hypot(dx, dy) || 1;
  const control = { x: (a.x + b.x) / 2 + dy * bend, y: (a.y + b.y) / 2 - dx * bend };
  const from = toward(a, control, RADIUS + 1);
  const to = toward(b, control, RADIUS + gap);
  if (length < 2 * RADIUS + gap) return { from: a, control, to: b, angle: Math.atan2(dy, dx) };
  return { from, control, to, angle: Math.atan2(b.y - control.y, b.x - control.x) };
}

/** Smallest bends first: a line stays as straight as others let it. */
const BENDS = [0.05, -0.05, 0.13, -0.13, 0.21, -0.21, 0.3, -0.3];
/** Towards the side that the way back does not take. */
const PAIR_BENDS = [0.16, 0.24, 0.32, 0.4];
/** How far a line may swing out: what goes around half of the map is harder to follow than what crosses a node. */
const SWING = 70;
const STEPS = 16;

/** The straightest line that keeps off `others` and their labels: one that crosses a node looks as if it ended there. */
export function clearCurve(a: Point, b: Point, both: boolean, others: readonly Point[]): Curve {
  const length = Math.hypot(b.x - a.x, b.y - a.y);
  const bends = (both ? PAIR_BENDS : BENDS).filter((bend, i) => i === 0 || (Math.abs(bend) * length) / 2 < SWING);
  const reach = SWING + 2 * RADIUS;
  const near = others.filter(
    (o) =>
      o.x > Math.min(a.x, b.x) - reach && o.x < Math.max(a.x, b.x) + reach &&
      o.y > Math.min(a.y, b.y) - reach && o.y < Math.max(a.y, b.y) + reach,
  );
  const straight = curve(a, b, bends[0]!);
  if (near.length === 0) return straight;
  for (const bend of bends) {
    const drawn = curve(a, b, bend);
    if (!near.some((o) => crosses(drawn, o))) return drawn;
  }
  return straight;
}

function crosses(c: Curve, node: Point): boolean {
  for (let i = 1; i < STEPS; i++) {
    const { x, y } = along(c, i / STEPS);
    if (Math.abs(x - node.x) < RADIUS + 5 && y > node.y - RADIUS - 5 && y < node.y + RADIUS + 18) return true;
  }
  return false;
}

/** A node that talks to itself: a loop above it. */
export function loop(a: Point): Curve {
  return {
    from: { x: a.x - 8, y: a.y - RADIUS },
    control: { x: a.x, y: a.y - RADIUS - 56 },
    to: { x: a.x + 9, y: a.y - RADIUS - 3 },
    angle: Math.PI * 0.42,
  };
}

function toward(a: Point, b: Point, distance: number): Point {
  const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
  return { x: a.x + ((b.x - a.x) * distance) / length, y: a.y + ((b.y - a.y) * distance) / length };
}

export function along(c: Curve, t: number): Point {
  const u = 1 - t;
  return {
    x: u * u * c.from.x + 2 * u * t * c.control.x + t * t * c.to.x,
    y: u * u * c.from.y + 2 * u * t * c.control.y + t * t * c.to.y,
  };
}

/** Bytes per second to a line's width: what is ten times more is visibly thicker, what is little is still seen. */
export const width = (bytesPerSecond: number): number =>
  Math.min(7, 1.3 + 0.85 * Math.log10(1 + bytesPerSecond / 100));

export interface Hull {
  group: string;
  outline: Point[];
  top: Point;
}

/** The outline around a group's nodes and their labels; it is drawn with a thick round pen, which makes it soft. */
export function hull(group: string, members: readonly { at: Point; halfWidth: number }[]): Hull {
  const corners = members.flatMap(({ at, halfWidth }): [number, number][] => [
    [at.x - halfWidth, at.y + RADIUS + 8],
    [at.x + halfWidth, at.y + RADIUS + 8],
    [at.x - Math.max(RADIUS, halfWidth * 0.7), at.y - RADIUS],
    [at.x + Math.max(RADIUS, halfWidth * 0.7), at.y - RADIUS],
  ]);
  const outline = (polygonHull(corners) ?? corners).map(([x, y]) => ({ x, y }));
  const top = Math.min(...outline.map((p) => p.y));
  const highest = outline.filter((p) => p.y === top);
  return { group, outline, top: { x: highest.reduce((s, p) => s + p.x, 0) / highest.length, y: top } };
}

export interface View {
  k: number;
  x: number;
  y: number;
}

/** What floats over the map's borders: counts, legend and buttons. */
const MARGIN = { side: 84, top: 58, bottom: 74 };

/** The view that shows everything, not magnified much. */
export function fit(points: Iterable<Point>, width: number, height: number): View {
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { x, y } of points) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  if (left > right) return { k: 1, x: width / 2, y: height / 2 };
  const room = { x: width - 2 * MARGIN.side, y: height - MARGIN.top - MARGIN.bottom };
  const k = Math.min(1.25, Math.max(0.1, Math.min(room.x / (right - left || 1), room.y / (bottom - top || 1))));
  return {
    k,
    x: width / 2 - (k * (left + right)) / 2,
    y: MARGIN.top + room.y / 2 - (k * (top + bottom)) / 2,
  };
}
