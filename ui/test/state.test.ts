import { describe, expect, test } from "vitest";
import { connection, type Health } from "../src/state/connection";
import { news } from "../src/state/diff";
import { emptyState, type Facts } from "../src/state/empty";
import { recordEnds } from "../src/state/groups";
import { losses, totalLost } from "../src/state/losses";
import { selects } from "../src/state/selection";
import type { Status } from "../src/api/types";
import { backoff } from "../src/api/stream";
import { point } from "../src/text/point";
import { edge, record, serviceMap } from "./records";

describe("connection", () => {
  const health: Health = { streamUp: true, streamSince: 10, pollOk: true, pollSince: 20, attempt: 0, everUp: true };
  test.each<[Partial<Health>, string, number]>([
    [{}, "live", 20],
    [{ streamUp: false, streamSince: 30 }, "reconnecting", 30],
    [{ pollOk: false, pollSince: 40 }, "reconnecting", 40],
    [{ streamUp: false, streamSince: 30, pollOk: false, pollSince: 40 }, "unreachable", 30],
    [{ streamUp: false, everUp: false }, "connecting", 10],
  ])("%o is %s", (change, state, since) => expect(connection({ ...health, ...change })).toEqual({ state, since }));

  test("waits grow to ten seconds", () => {
    expect([1, 2, 3, 4, 5, 50].map((n) => backoff(n, () => 1))).toEqual([1, 2, 4, 8, 10, 10]);
    expect(backoff(1, () => 0)).toBeCloseTo(0.7);
  });
});

describe("what is wrong with a question is pointed at", () => {
  test.each<[string, number, [string, string, string]]>([
    ["port:443 kind:opn", 15, ["port:443 kind:", "opn", ""]],
    ["(a or", 6, ["(a or", " ", ""]],
    ["(a", 1, ["", "(", "a"]],
    ["zone:x and b", 1, ["", "zone:x", " and b"]],
    ["a".repeat(50) + " kind:x" + " b".repeat(40), 57, [`…${"a".repeat(24)} kind:`, "x", `${" b".repeat(15)}…`]],
  ])("%s at %i", (text, column, parts) => expect(point(text, column)).toEqual(parts));
});

describe("selection", () => {
  test("ends have the ids of the map", () => {
    expect(recordEnds(record())).toEqual({ source: "shop/web-0", destination: "shop/api-1" });
    expect(recordEnds(record({ src_kind: "vm", src_name: "erp", src_namespace: "x" })).source).toBe("erp");
    const { src_name: _, ...nameless } = record();
    expect(recordEnds(nameless).source).toBe("10.88.0.10");
    const host = record({ src_kind: "host", src_namespace: "", src_name: "laptop", src_workload: "curl" });
    expect(recordEnds(host).source).toBe("laptop/curl");
    const to = (dst_ip: string) => recordEnds(record({ dst_name: "", dst_ip })).destination;
    expect(["224.0.0.251", "239.1.2.3", "ff02::fb", "255.255.255.255", "240.0.0.1"].map(to)).toEqual(
      ["multicast", "multicast", "multicast", "broadcast", "240.0.0.1"],
    );
  });
  test("echo identifiers are no ports", () => {
    const ping = { type: "edge", source: "shop/web-0", destination: "shop/api-1", port: 0, proto: "icmp" } as const;
    expect(selects(ping, record({ proto: "icmp", dst_port: 77 }))).toBe(true);
  });
  test("an edge takes its records, with or without its port", () => {
    const pair = { type: "edge", source: "shop/web-0", destination: "shop/api-1" } as const;
    expect(selects(pair, record())).toBe(true);
    expect(selects({ ...pair, port: 8080, proto: "tcp" }, record())).toBe(true);
    expect(selects({ ...pair, port: 8081, proto: "tcp" }, record())).toBe(false);
    expect(selects({ type: "node", id: "shop/api-1" }, record())).toBe(true);
    expect(selects({ type: "node", id: "shop/api-2" }, record())).toBe(false);
  });
});

test("news tell of edges that came and went", () => {
  const before = serviceMap([edge("a", "b")]);
  expect(news(undefined, before)).toBe("");
  expect(news(before, before)).toBe("");
  const after = serviceMap([edge("a", "c"), edge("b", "c"), edge("c", "d"), edge("d", "e")]);
  expect(news(before, after)).toBe(
    "4 new edges: a to c port 8080, b to c port 8080, c to d port 8080 and more; 1 edge gone",
  );
});

const agent = (connected: boolean, lost = 0) => ({
  agent: "node-1", node: "node-1", connected, version: "0", last_seen: "", rows: 0, lost, names_age_s: 0
});
const status = (agents: Status["agents"], lost: Status["lost"] = {}) => ({ agents, lost }) as Status;

test("losses name their place, worst first", () => {
  expect(losses(undefined)).toEqual([]);
  const all = losses(status([agent(true, 3)], { subscriber_slow: 38, spool_full: 0 }));
  expect(all.map((l) => l.where)).toEqual(["live viewers that read too slowly", "agent node-1"]);
  expect(totalLost(all)).toBe(41);
});

describe("an empty page says why", () => {
  const facts: Facts = {
    unreachableSince: undefined, status: status([agent(true)]), loaded: true, edges: 0, inNamespace: 0, shown: 0,
    window: "5m", namespace: "", search: "", relay: "relay:8080", error: undefined,
  };
  test.each<[Partial<Facts>, string | undefined, string]>([
    [{ shown: 3, edges: 3 }, undefined, ""],
    [{ unreachableSince: 5 }, "unreachable", "relay:8080"],
    [{ error: "The disk is full." }, "error", "The disk is full."],
    [{ loaded: false }, "loading", ""],
    [{ status: status([]) }, "no-agent", "first agent"],
    [{ status: status([agent(false)]) }, "no-agent", "1 agent reported before"],
    [{}, "no-flows", "1 agent is connected"],
    [{ edges: 4, inNamespace: 4, search: "xyz" }, "filtered", "4 connections hidden"],
    [{ edges: 4, namespace: "x" }, "filtered", "4 connections in other namespaces"],
  ])("%o", (change, id, text) => {
    const state = emptyState({ ...facts, ...change });
    expect(state?.id).toBe(id);
    expect(state?.text ?? "").toContain(text);
  });
  test.each([
    ["relay.example.com", "flowobs agent --relay relay.example.com:4243"],
    ["[fd00::5]:8080", "flowobs agent --relay [fd00::5]:4243"],
    ["localhost:8080", "flowobs agent"],
    ["127.0.0.1:8080", "flowobs agent"],
    ["[::1]:8080", "flowobs agent"],
  ])("an agent is told where the relay of %s is", (relay, command) => {
    expect(emptyState({ ...facts, status: status([]), relay })?.command).toBe(command);
  });
});
