import { expect, test } from "vitest";
import { grouped, parseGroup, recordEnds, type Group } from "../src/state/groups";
import { selects } from "../src/state/selection";
import { asks, both, tellable, value } from "../src/text/ask";
import { command } from "../src/text/cli";
import type { MapNode } from "../src/api/types";
import { edge, record, serviceMap } from "./records";

const named = record({
  src_workload: "web", src_service: "front", src_node: "n1", src_zone: "z1", src_cluster: "c1", src_process: "nginx",
  src_labels: "app=web,tier=front", dst_name: "", dst_kind: "world", dst_ip: "203.0.113.9",
});

test("groups in an address", () => {
  expect(["zone", "label:app", "label:", "x", null].map(parseGroup)).toEqual(["zone", "label:app", "pod", "pod", "pod"]);
});

test.each<[Group, string]>([
  ["pod", "shop/web-0"],
  ["workload", "shop/web"],
  ["service", "shop/front"],
  ["namespace", "shop"],
  ["node", "n1"],
  ["zone", "z1"],
  ["cluster", "c1"],
  ["process", "shop/web-0 nginx"],
  ["address", "10.88.0.10"],
  ["label:tier", "tier=front"],
  ["label:ap", "shop/web-0"],
])("by %s a record's source is %s", (group, id) => {
  expect(recordEnds(named, group).source).toBe(id);
  expect(selects({ type: "node", id }, named, group)).toBe(true);
});

test("what nobody has named", () => {
  expect(recordEnds(named, "zone").destination).toBe("world");
  expect(recordEnds(named, "address").destination).toBe("203.0.113.9");
});

/** As the relay tells a map by `group`: each node has the attributes of one of its ends. */
function nodesBy(group: Group, id: string, fields: Partial<MapNode> = {}): ReadonlyMap<string, MapNode> {
  const node: MapNode = {
    id, kind: "pod", cluster: "c1", namespace: "shop", name: "web-0", workload: "web", workload_kind: "Deployment",
    service: "front", node: "n1", zone: "z1", addresses: ["10.88.0.10"], ...fields,
  };
  const map = grouped({ ...serviceMap([edge(id, id)]), group, nodes: [node] });
  return new Map(map.nodes.map((n) => [n.id, n]));
}

test("a node of several ends keeps what they have in common", () => {
  expect(nodesBy("workload", "shop/web").get("shop/web")).toEqual(
    { id: "shop/web", kind: "group", cluster: "c1", namespace: "shop", name: "web", addresses: ["10.88.0.10"] },
  );
  expect(nodesBy("zone", "z1").get("z1")).toEqual(
    { id: "z1", kind: "group", cluster: "c1", name: "z1", zone: "z1", addresses: ["10.88.0.10"] },
  );
  expect(nodesBy("process", "shop/web-0 nginx").get("shop/web-0 nginx")).toMatchObject({ kind: "pod", name: "web-0 nginx" });
  const own = { kind: "vm", namespace: "", name: "erp", workload: "", service: "" };
  expect(nodesBy("workload", "erp", own).get("erp")).toMatchObject(own);
});

test.each<[Group, string, string]>([
  ["pod", "shop/web-0", "src.pod:shop/web-0 or dst.pod:shop/web-0"],
  ["workload", "shop/web", "src.workload:shop/web or dst.workload:shop/web"],
  ["service", "shop/front", "src.service:shop/front or dst.service:shop/front"],
  ["namespace", "shop", "src.ns:shop or dst.ns:shop"],
  ["node", "n1", "src.node:n1 or dst.node:n1"],
  ["zone", "z1", "src.zone:z1 or dst.zone:z1"],
  ["label:app", "app=a b", 'src.label:"app=a b" or dst.label:"app=a b"'],
  ["process", "shop/web-0 tmux: x", 'src.pod:shop/web-0 src.process:"tmux: x" or dst.pod:shop/web-0 dst.process:"tmux: x"'],
])("by %s, %s is asked for by its own field", (group, id, question) => {
  expect(asks({ type: "node", id }, nodesBy(group, id), group)).toBe(question);
});

test("an edge is asked for by both ends", () => {
  const nodes = nodesBy("workload", "shop/web");
  const call = { type: "edge", source: "world", destination: "shop/web", port: 443, proto: "tcp" } as const;
  const question = 'src.kind:world src.name:"" dst.workload:shop/web dst.port:443 proto:tcp';
  expect(asks(call, nodes, "workload")).toBe(question);
  expect(command(call, "5m", "", nodes, undefined, "kind:drop", "workload")).toBe(
    `flows tail --since 5m '(kind:drop) (${question})'`,
  );
  expect(asks({ type: "edge", source: "a/*", destination: "(addresses)" }, nodes, "pod")).toBe("src.ns:a");
  expect(tellable({ type: "edge", source: "a/*", destination: "(addresses)" })).toBe(false);
  expect(asks({ type: "node", id: "fe80::1" }, nodes, "pod")).toBe("src.ip:fe80::1 or dst.ip:fe80::1");
});

test("questions side by side, and values that must be quoted", () => {
  expect([both("a", ""), both("", "b"), both("a or b", "c")]).toEqual(["a", "b", "(a or b) (c)"]);
  expect(value('a"*\\')).toBe('"a\\"*\\\\"');
  expect(value("ops/Café-0")).toBe('ops/"Café-0"');
  expect(value("")).toBe('""');
});
