// One outline per kind of end, in a box from -12 to 12. The canvas and the page draw the same paths.

const HEXAGON = "M-11 0 L-5.5 -9.6 L5.5 -9.6 L11 0 L5.5 9.6 L-5.5 9.6 Z";
const CIRCLE = "M-10 0 A10 10 0 1 1 10 0 A10 10 0 1 1 -10 0 Z";
const SQUARE = "M-6.5 -9.5 H6.5 A3 3 0 0 1 9.5 -6.5 V6.5 A3 3 0 0 1 6.5 9.5 H-6.5 A3 3 0 0 1 -9.5 6.5 V-6.5 A3 3 0 0 1 -6.5 -9.5 Z";
const DIAMOND = "M0 -12 L12 0 L0 12 L-12 0 Z";
const BLOCK = "M-9 -9 H9 V9 H-9 Z";

export const SHAPES: Record<string, { path: string; name: string; dashed?: boolean }> = {
  pod: { path: CIRCLE, name: "pod" },
  container: { path: CIRCLE, name: "container" },
  service: { path: HEXAGON, name: "service" },
  node: { path: SQUARE, name: "node" },
  host: { path: SQUARE, name: "host" },
  vm: { path: BLOCK, name: "virtual machine" },
  external: { path: DIAMOND, name: "external" },
  world: { path: DIAMOND, name: "world" },
  group: { path: `${CIRCLE} M-6 0 A6 6 0 1 1 6 0 A6 6 0 1 1 -6 0 Z`, name: "several" },
  unknown: { path: CIRCLE, name: "unknown", dashed: true },
};

export const shape = (kind: string | undefined) => SHAPES[kind ?? "unknown"] ?? SHAPES["unknown"]!;

/** What the legend shows: kinds that share a shape, together. */
export const LEGEND: readonly { kind: string; text: string }[] = [
  { kind: "pod", text: "pod, container" },
  { kind: "service", text: "service" },
  { kind: "host", text: "host, node" },
  { kind: "external", text: "external" },
  { kind: "unknown", text: "unknown" },
];
