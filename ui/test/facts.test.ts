import { expect, test } from "vitest";
import { endFacts, wayFacts } from "../src/state/facts";
import { staleNames } from "../src/state/names";
import { path, slowest } from "../src/state/totals";
import { ends, sentence } from "../src/table/cells";
import { milliseconds, share } from "../src/text/format";
import type { Status } from "../src/api/types";
import { edge, record } from "./records";

test("the newest record tells of an end", () => {
  const of = (fields = {}) => record({ dst_labels: "app=api,tier=x", dst_services: "api,all", dst_identity: 7, ...fields });
  expect(endFacts([record({ dst_name: "other" }), of({ dst_container: "c" }), of()], "shop/api-1", "pod")).toEqual([
    ["Container", "c"],
    ["Services", "api, all"],
    ["Labels", "app=api\ntier=x"],
    ["Identity", "7"],
  ]);
  const old = of({ dst_labels: "", dst_services: "", dst_identity: 0, dst_identity_source: "relay", dst_identity_age: 200 });
  expect(endFacts([old], "shop/api-1", "pod")).toEqual([["Named by", "relay, name 3 min old"]]);
  expect(endFacts([of()], "shop", "namespace")).toEqual([]);
});

test("how packets travel", () => {
  const tunnel = { tunnel: "vxlan", tunnel_id: 42, tunnel_src_ip: "10.0.0.1", tunnel_dst_ip: "10.0.0.2" };
  const records = [record({ virtual_ip: "10.96.0.1", virtual_port: 80 }), record({ ...tunnel, cast: "unicast" }), record(tunnel)];
  expect(wayFacts(records)).toEqual([["Asked for", "10.96.0.1:80"], ["Tunnel", "vxlan 42 10.0.0.1 → 10.0.0.2"]]);
  const many = Array.from({ length: 6 }, (_, i) => record({ snat_ip: `10.0.0.${i}`, cast: "multicast" }));
  expect(wayFacts(many)).toEqual([["Seen as", "10.0.0.0\n10.0.0.1\n10.0.0.2\n10.0.0.3\nand 2 more"], ["Cast", "multicast"]]);
});

test("an old name is marked", () => {
  const r = record({ src_identity_age: 200 });
  expect([ends(r).source.age, ends(r).destination.age]).toEqual(["name 3 min old", ""]);
  expect(sentence(r)).toContain("shop/web-0 10.88.0.10:40000 (name 3 min old) to");
  expect(ends(record({ src_name: "", src_identity_age: 200 })).source.age).toBe("");
});

test("why names may be old", () => {
  const pods = { resource: "pods", objects: 1, age_s: 190, stale: true, off: false, problem: "connection refused" };
  const agent = { agent: "n1", node: "n1", connected: true, version: "", last_seen: "", rows: 0, lost: 0, names_age_s: 0 };
  const of = (resources: object[], agents = [agent], ready = true) =>
    staleNames({ agents, identity: { cluster: "demo", ready, version: 1, requests: 0, resources, agents: [] } } as unknown as Status);
  expect(staleNames(undefined)).toEqual([]);
  expect(of([{ ...pods, stale: false }, { ...pods, off: true }])).toEqual([]);
  expect(of([pods, { ...pods, resource: "nodes", age_s: null, problem: "" }])).toEqual([
    "pods not heard of for 3 min (connection refused)", "nodes never heard of",
  ]);
  expect(of([], [{ ...agent, names_age_s: 60 }], false)).toEqual([
    "the relay has not learnt those of demo yet", "agent n1 uses some that are 60 s old",
  ]);
  expect(of([pods, pods, pods, pods]).at(-1)).toBe("and 1 more");
  expect(staleNames({ agents: [{ ...agent, names_age_s: 9 }], identity: null } as unknown as Status)).toHaveLength(1);
});

test("several edges: no quantile is larger than the largest, and a path is what both sides told", () => {
  const told = { sent_packets: 10, arrived_packets: 8, reply_sent_packets: 1, reply_arrived_packets: 1, path_loss: 2 };
  const edges = [edge("a", "b", { rtt_p95_ms: 3, ...told }), edge("a", "b", { rtt_p95_ms: 7 }), edge("a", "b", { ...told })];
  expect(slowest(edges)).toMatchObject({ rtt_p95_ms: 7, connect_ms: null });
  expect(path(edges)).toMatchObject({ sent_packets: 20, arrived_packets: 16, path_loss: 4 });
  expect(path([edge("a", "b")]).path_loss).toBeNull();
});

test("latencies and shares as people read them", () => {
  expect([null, 0.061, 1.234, 42, 1500].map(milliseconds)).toEqual(["–", "61 µs", "1.23 ms", "42.0 ms", "1.50 s"]);
  expect([share(0, 0), share(1, 1e6), share(3, 1000), share(5, 40)]).toEqual(["0.00 %", "<0.01 %", "0.30 %", "12.5 %"]);
});
