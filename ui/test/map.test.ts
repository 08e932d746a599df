import { describe, expect, test } from "vitest";
import { along, clearCurve, curve, fit, hull, width, type Curve } from "../src/map/geometry";
import { buildGraph, ranks } from "../src/map/graph";
import { unit } from "../src/map/hash";
import { hit, hitIndex } from "../src/map/hit";
import { placeLabels } from "../src/map/labels";
import { layout, type LayoutInput } from "../src/map/layout";
import { curves, linkText, scene } from "../src/map/scene";
import { overlap } from "../src/map/separate";
import { dropReasons, sum } from "../src/state/totals";
import { edge, serviceMap } from "./records";

const shop = serviceMap([
  edge("203.0.113.9", "shop/web-0", { port: 443 }),
  edge("shop/web-0", "shop/api-0"),
  edge("shop/web-0", "shop/api-0", { port: 9090, drops: 2, drop_reasons: { NO_SOCKET: 2 } }),
  edge("shop/api-0", "shop/db-0", { port: 5432 }),
  edge("shop/api-0", "pay/pay-0"),
  edge("pay/pay-0", "shop/api-0"),
]);

function input(change: Partial<LayoutInput> = {}): LayoutInput {
  const graph = buildGraph(shop, 300);
  return {
    nodes: graph.nodes.map((n) => ({ id: n.id, group: n.group, rank: n.rank, width: 80, height: 66 })),
    links: graph.links.map((l) => ({ source: l.source, target: l.destination })),
    ...change,
  };
}

describe("graph", () => {
  test("one line per pair, whatever the ports", () => {
    const { nodes, links } = buildGraph(shop, 300);
    expect(nodes).toHaveLength(5);
    expect(links).toHaveLength(5);
    const link = links.find((l) => l.key === "shop/web-0->shop/api-0")!;
    expect(link.edges).toHaveLength(2);
    expect(link.bad).toBe(2);
    expect(link.bytesPerSecond).toBeCloseTo((2 * 10_000) / 300);
    expect(linkText(link)).toBe(":8080 :9090 · 67 B/s · 2 drops");
  });
  test("a namespace that is a node is in none", () => {
    const map = { ...shop, nodes: [{ id: "shop", kind: "group", namespace: "shop", name: "shop" }] };
    expect(buildGraph(map, 1).nodes[0]).toMatchObject({ group: "", hue: "shop", label: "shop" });
  });
  test("sums and reasons", () => {
    const edges = [edge("a", "b", { drop_reasons: { X: 1, Y: 5 } }), edge("a", "b", { drop_reasons: { X: 2 } })];
    expect(sum(edges).packets).toBe(20);
    expect(dropReasons(edges)).toEqual([["Y", 5], ["X", 3]]);
  });
  test("ranks read from where traffic comes in, circles or not", () => {
    const links = [["w", "a"], ["a", "b"], ["b", "a"], ["w", "b"], ["b", "c"], ["c", "c"]].map(
      ([source, destination]) => ({ source: source!, destination: destination! }),
    );
    expect(Object.fromEntries(ranks(["c", "b", "a", "w"], links))).toEqual({ w: 0, a: 1, b: 2, c: 3 });
  });
  test("an edge to a node that is not listed still shows", () => {
    const map = { ...shop, nodes: [] };
    expect(buildGraph(map, 1).nodes.map((n) => n.kind)).toEqual(Array(5).fill("unknown"));
  });
});

describe("layout", () => {
  test("is the same every time", () => expect(layout(input())).toEqual(layout(input())));

  test("keeps room for labels and reads from left to right", () => {
    const at = layout(input());
    const boxes = [...at.values()].map(({ x, y }) => ({ left: x - 39, right: x + 39, top: y - 19, bottom: y + 44 }));
    boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => expect(overlap(a, b)).toBe(false)));
    expect(at.get("203.0.113.9")!.x).toBeLessThan(at.get("shop/web-0")!.x);
    expect(at.get("shop/web-0")!.x).toBeLessThan(at.get("shop/db-0")!.x);
  });

  test("a newcomer hardly moves the others, and a pinned node not at all", () => {
    const before = layout(input());
    const warm = input();
    for (const node of warm.nodes) Object.assign(node, before.get(node.id));
    warm.nodes.find((n) => n.id === "shop/api-0")!.pinned = true;
    warm.nodes.push({ id: "shop/new", group: "shop", rank: 2, width: 80, height: 66 });
    warm.links.push({ source: "shop/web-0", target: "shop/new" });
    const after = layout(warm);
    expect(after.get("shop/api-0")).toEqual(before.get("shop/api-0"));
    const moved = [...before].map(([id, p]) => Math.hypot(after.get(id)!.x - p.x, after.get(id)!.y - p.y));
    expect(Math.max(...moved)).toBeLessThan(90);
  });

  test("a long chain of calls in a crowd is no thin band", () => {
    const ids = Array.from({ length: 120 }, (_, i) => i);
    const at = layout({
      nodes: ids.map((i) => ({ id: `shop/${i}`, group: "shop", rank: Math.floor(i / 4), width: 80, height: 66 })),
      links: ids.slice(4).map((i) => ({ source: `shop/${i - 4}`, target: `shop/${i}` })),
    });
    const span = (of: (p: { x: number; y: number }) => number) => {
      const all = [...at.values()].map(of);
      return Math.max(...all) - Math.min(...all);
    };
    expect(span((p) => p.x) / span((p) => p.y)).toBeLessThan(8);
  });

  test("names spread over the unit interval", () => {
    const values = Array.from({ length: 200 }, (_, i) => unit(`pod-${i}`));
    expect(Math.min(...values)).toBeLessThan(0.05);
    expect(Math.max(...values)).toBeGreaterThan(0.95);
  });
});

describe("geometry", () => {
  const [a, b] = [{ x: 0, y: 0 }, { x: 200, y: 0 }];
  test("lines end outside the nodes", () => {
    const c = curve(a, b, 0);
    expect(c.from.x).toBeGreaterThan(14);
    expect(c.to.x).toBeLessThan(186);
    expect(c.angle).toBeCloseTo(0);
  });
  test("the two ways of a pair do not touch", () => {
    expect(Math.sign(curve(a, b, 0.16).control.y)).not.toBe(Math.sign(curve(b, a, 0.16).control.y));
  });
  test("a line goes around a node that is not its own", () => {
    const middle = { x: 100, y: 0 };
    const samples = (c: Curve) => Array.from({ length: 21 }, (_, i) => along(c, i / 20));
    const distance = (c: Curve) => Math.min(...samples(c).map((p) => Math.hypot(p.x - middle.x, p.y - middle.y)));
    expect(distance(curve(a, b, 0.05))).toBeLessThan(14);
    for (const both of [false, true]) expect(distance(clearCurve(a, b, both, [middle]))).toBeGreaterThan(14);
    expect(clearCurve(a, b, false, [{ x: 100, y: 90 }])).toEqual(curve(a, b, 0.05));
  });
  test("more bytes, thicker line, within bounds", () => {
    const widths = [0, 1e3, 1e5, 1e7, 1e12].map(width);
    expect([...widths].sort((x, y) => x - y)).toEqual(widths);
    expect(widths.at(-1)).toBeLessThanOrEqual(7);
  });
  test("everything fits", () => {
    const view = fit([{ x: -500, y: -200 }, { x: 900, y: 300 }], 1000, 500);
    for (const [x, y] of [[-500, -200], [900, 300]] as const) {
      expect(x * view.k + view.x).toBeGreaterThan(40);
      expect(x * view.k + view.x).toBeLessThan(960);
      expect(y * view.k + view.y).toBeGreaterThan(40);
      expect(y * view.k + view.y).toBeLessThan(460);
    }
    expect(fit([], 100, 100)).toEqual({ k: 1, x: 50, y: 50 });
  });
  test("a hull around one node is still an area", () => {
    expect(hull("x", [{ at: a, halfWidth: 30 }]).outline.length).toBeGreaterThan(2);
  });
});

test("what is under the pointer", () => {
  const places = new Map([["203.0.113.9", { x: 0, y: 0 }], ["shop/web-0", { x: 200, y: 0 }]]);
  const graph = buildGraph(serviceMap([edge("203.0.113.9", "shop/web-0")]), 1);
  const index = hitIndex(places, curves(graph, places));
  expect(hit(index, { x: 5, y: 5 }, 1)).toEqual({ type: "node", id: "203.0.113.9" });
  expect(hit(index, { x: 100, y: -4 }, 1)).toEqual({ type: "link", key: "203.0.113.9->shop/web-0" });
  expect(hit(index, { x: 100, y: 80 }, 1)).toBeUndefined();
});

describe("labels", () => {
  const wish = (key: string, x: number, priority: number) => ({
    key, text: key, width: 50, height: 16, places: [{ x, y: 0 }, { x, y: 30 }], priority,
  });
  test("the important one first, the next elsewhere, the last not at all", () => {
    const placed = placeLabels([wish("c", 10, 1), wish("b", 5, 2), wish("a", 0, 3)]);
    expect(placed.map((p) => [p.key, p.y])).toEqual([["a", 0], ["b", 30]]);
  });
  test("what is too wide is shortened where that helps", () => {
    const wide = { ...wish("3 drops, 3 fails", 0, 1), width: 120, places: [{ x: 0, y: 0 }] };
    const blocks = [-80, 40].map((left) => ({ left, right: left + 40, top: -9, bottom: 9 }));
    expect(placeLabels([wide], blocks)).toEqual([]);
    const short = { ...wide, shorter: { text: "3 drops …", width: 60 } };
    expect(placeLabels([short], blocks).map((p) => p.text)).toEqual(["3 drops …"]);
    expect(placeLabels([short]).map((p) => p.text)).toEqual(["3 drops, 3 fails"]);
  });
  test("what somebody points at is always there", () => {
    const block = { left: -100, right: 100, top: -50, bottom: 50 };
    expect(placeLabels([{ ...wish("a", 0, 1), always: true }, wish("b", 0, 9)], [block]).map((p) => p.key)).toEqual(["a"]);
  });
  test("a small shop shows every name and every trouble, none over another", () => {
    const graph = buildGraph(shop, 300);
    const places = layout(input());
    const texts = new Map(graph.nodes.map((n) => [n.id, { text: n.label, width: n.label.length * 7 }]));
    const view = fit(places.values(), 1400, 470);
    const picture = scene({ graph, places, view, texts, shown: undefined, emphasis: undefined, measure: (t) => t.length * 7 });
    expect(picture.labels.nodes).toHaveLength(5);
    expect(picture.labels.links.map((l) => l.text)).toEqual(["2 drops"]);
    expect(picture.labels.groups.map((l) => l.text).sort()).toEqual(["pay", "shop"]);
  });
});
