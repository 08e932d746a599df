import { expect, test } from "vitest";
import { covers, fold, OUTSIDE } from "../src/state/fold";
import { selects } from "../src/state/selection";
import { edge, record, serviceMap } from "./records";

const crowd = serviceMap(
  Array.from({ length: 80 }, (_, i) => edge(`a/pod-${i}`, `b/pod-${i % 7}`, i === 3 ? { drops: 2, drop_reasons: { X: 2 } } : {})),
);

test("a small map stays as it is", () => {
  const map = serviceMap([edge("a/x", "b/y"), edge("1.2.3.4", "a/x")]);
  const folded = fold(map, "");
  expect(folded.map).toBe(map);
  expect(folded.of("a/x")).toBe("a/x");
});

test("in a crowd a namespace is one node, and nothing gets lost in sums", () => {
  const { map, of } = fold(crowd, "");
  expect(map.nodes.map((n) => [n.id, n.name])).toEqual([["a/*", "80 members"], ["b/*", "7 members"]]);
  expect(map.edges).toHaveLength(1);
  expect(map.edges[0]).toMatchObject({ source: "a/*", destination: "b/*", flows: 80, bytes: 80_000, drops: 2, drop_reasons: { X: 2 } });
  expect(of("a/pod-3")).toBe("a/*");
});

test("the chosen namespace stays open", () => {
  const { map } = fold(crowd, "b");
  expect(map.nodes).toHaveLength(1 + 7);
  expect(map.edges).toHaveLength(7);
});

test("many nameless addresses become one node", () => {
  const map = serviceMap([
    ...Array.from({ length: 9 }, (_, i) => edge(`198.51.100.${i}`, "a/x")),
    edge("2001:db8::1", "a/x"),
  ]);
  expect(fold(map, "").map.nodes.map((n) => n.id)).toEqual([OUTSIDE, "a/x"]);
});

test("a folded node covers its members, and selects their records", () => {
  expect([covers("a/*", "a/x"), covers("a/*", "ab/x"), covers(OUTSIDE, "fe80::1"), covers(OUTSIDE, "a/x")]).toEqual([
    true, false, true, false,
  ]);
  expect(selects({ type: "node", id: "shop/*" }, record())).toBe(true);
  expect(selects({ type: "node", id: "pay/*" }, record())).toBe(false);
});
