// A relay for development and for tests of the page: docs/api.md over made-up traffic, with fault switches.
//
//   node dev/mock-relay.mjs [--port 8080] [--mode shop|no-agent|no-flows|hostile|lossy|old-names|store-down|crowd] [--prefix /x] [--root dist]
//
// POST /_mock?mode=... changes the mode while it runs; POST /_mock?away=5 is away for 5 s.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CALLS, crowd, edge, hostile, NODES, record } from "./shop.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const { values: options } = parseArgs({
  options: {
    port: { type: "string", default: "8080" },
    mode: { type: "string", default: "shop" },
    prefix: { type: "string", default: "" },
    root: { type: "string", default: join(here, "..", "dist") },
    speed: { type: "string", default: "1" },
  },
});
let mode = options.mode;
const started = Date.now();
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain" };

const iso = (ms) => new Date(ms).toISOString();
const quiet = () => mode === "no-agent" || mode === "no-flows";

function world() {
  if (mode === "hostile") return hostile({ nodes: NODES, calls: CALLS });
  if (mode === "crowd") return crowd(150);
  return { nodes: NODES, calls: CALLS };
}

const FIELDS = ["kind", "ns", "pod", "port", "proto", "verdict"];

/** The question as far as a mock understands it: words, `:port`, `proto:`, `src.FIELD:` and `dst.FIELD:`; `or`, parentheses left out. */
const words = (text) => text.replaceAll(/[()]/g, " ").match(/(?:"(?:\\.|[^"])*"|[^\s"])+/g) ?? [];
const asked = (query) => words(query.get("q") ?? "");

function wrong(query) {
  const bad = asked(query).find((w) => /^\w+:/.test(w) && !FIELDS.includes(w.split(":")[0]));
  if (bad === undefined) return undefined;
  return { error: `there is no field \`${bad.split(":")[0]}\`; docs/query.md has them all`, column: query.get("q").indexOf(bad) + 1 };
}

function hints(q) {
  const word = /[^\s]*$/.exec(q)[0];
  const fields = FIELDS.filter((name) => name.startsWith(word)).map((name) => ({ text: `${name}:`, about: "a field" }));
  return { start: q.length - word.length + 1, field: "", hints: fields };
}

function answers(call, query, byId) {
  const sides = { src: call.source, dst: call.destination };
  return (query.get("q") ?? "").split(" or ").some((part) => words(part).every((word) => {
    const sided = /^(src|dst)\.(\w+):"?(.*?)"?$/.exec(word);
    if (sided?.[2] === "port") return call.port === Number(sided[3]);
    if (sided) return groupId(byId.get(sides[sided[1]]), sided[2] === "label" ? "label:app" : sided[2] === "ns" ? "namespace" : sided[2]) === sided[3];
    const [field, value] = word.includes(":") ? word.split(":") : [undefined, word];
    if (field === "" || field === "port") return call.port === Number(value);
    if (field === "proto") return call.proto === value;
    return `${call.source} ${call.destination}`.includes(value);
  }));
}

function filtered(query) {
  const { nodes, calls } = world();
  const namespace = query.get("namespace");
  const byId = new Map(nodes.map((n) => [n.id, n]));
  const inside = (id) => !namespace || byId.get(id).namespace === namespace;
  const pod = query.get("pod");
  const port = query.get("port");
  const kept = calls.filter(
    (c) =>
      (inside(c.source) || inside(c.destination)) &&
      answers(c, query, byId) &&
      (!pod || c.source === pod || c.destination === pod) &&
      (!port || c.port === Number(port)),
  );
  return { byId, calls: quiet() ? [] : kept };
}

function secondsOf(query) {
  const since = /^(\d+)([smhd])$/.exec(query.get("since") ?? "5m");
  return since ? Number(since[1]) * { s: 1, m: 60, h: 3600, d: 86400 }[since[2]] : 300;
}

/** The id of a node on a map by `group`: what has no such attribute stands for itself. */
function groupId(node, group) {
  if (group.startsWith("label:")) return group === "label:app" && node.kind === "pod" ? `app=${node.workload}` : node.id;
  const value = node[group];
  if (!value) return node.id;
  return group === "workload" || group === "service" ? `${node.namespace}/${value}` : value;
}

function serviceMap(query) {
  const group = query.get("group") ?? "pod";
  const { byId, calls } = filtered(query);
  const to = Date.now();
  const from = Math.max(started - 240_000, to - secondsOf(query) * 1000);
  const nodes = new Map();
  const edges = new Map();
  for (const call of calls) {
    const [source, destination] = [call.source, call.destination].map((id) => {
      const node = byId.get(id);
      const own = groupId(node, group);
      nodes.set(own, { ...node, id: own, addresses: [...new Set([...(nodes.get(own)?.addresses ?? []), ...node.addresses])] });
      return own;
    });
    const key = [source, destination, call.port, call.proto].join(" ");
    edges.set(key, edge({ ...call, source, destination, perSecond: call.perSecond + (edges.get(key)?.perSecond ?? 0) }, from, to));
  }
  return { from: iso(to - secondsOf(query) * 1000), to: iso(to), table: "flows", group, nodes: [...nodes.values()], edges: [...edges.values()], more: false };
}

/** A hundred steps of a wavy day; nothing is known of the first twenty. */
function timeseries(query) {
  const measure = query.get("measure") ?? "bytes";
  const step = Math.max(1, Math.round(secondsOf(query) / 100));
  const begin = Math.floor(Date.now() / 1000 / step) * step - 99 * step;
  const { calls } = filtered(query);
  const rate = calls.reduce((sum, c) => sum + c.perSecond * (c.bytes + c.reply), 0);
  const at = Array.from({ length: 100 }, (_, i) => begin + i * step);
  const value = (second) => {
    const wave = 1 + 0.4 * Math.sin(second / step / 7) + 0.2 * Math.sin(second / step / 2.3);
    if (measure === "rate") return rate * wave;
    if (measure === "drops") return calls.some((c) => c.trouble === "drop") && Math.sin(second / step / 5) > 0.6 ? Math.round(3 * wave) : 0;
    return 1.2 * wave;
  };
  return {
    from: iso(begin * 1000), to: iso(Date.now()), covered_from: iso((begin + 20 * step) * 1000), table: "flows", group: "pod",
    by: "total", measure, unit: measure, step_s: step, at: at.map((second) => iso(second * 1000)),
    series: [{ values: at.map((second, i) => (i < 20 ? null : value(second))) }],
  };
}

const identity = (old) => ({
  cluster: "demo", ready: true, version: 812, requests: 40, agents: [],
  resources: [{ resource: "pods", objects: 120, age_s: old ? 190 : 1.2, stale: old, off: false, problem: old ? "connection refused" : "" }],
});

function status() {
  const healthy = mode !== "store-down";
  const agents = ["node-1", "node-2"].map((agent, i) => ({
    agent, node: agent, connected: true, version: "0.1.0", last_seen: iso(Date.now()), rows: 48_211 * (i + 1),
    lost: mode === "lossy" && i === 1 ? 1204 : 0, names_age_s: mode === "old-names" && i === 1 ? 200 : 0,
  }));
  return {
    version: "0.1.0", uptime_s: (Date.now() - started) / 1000,
    store: {
      url: "chdb:///var/lib/flowobs/store", engine: "ClickHouse 26.9.2.1 (chdb)", healthy, rows: 144_633, bytes: 8_240_000,
      oldest: iso(started - 240_000), newest: iso(Date.now()), retention: "3d", dropped_early: [], lag_s: 0.4, queued: 0,
      error: healthy ? null : "The store's disk is full.",
    },
    live: { subscribers: streams.size, buffered: 4096, oldest: iso(started - 60_000) },
    agents: mode === "no-agent" ? [] : agents, identity: identity(mode === "old-names"),
    lost: { subscriber_slow: mode === "lossy" ? 38 : 0 },
  };
}

function some(query, count, spread) {
  const { byId, calls } = filtered(query);
  if (calls.length === 0) return [];
  const now = Date.now();
  return Array.from({ length: count }, (_, i) => {
    const at = now - spread + (spread * i) / count;
    const made = record(calls[Math.floor(Math.random() * calls.length)], byId, at);
    return mode === "old-names" ? { ...made, dst_identity_age: 200 } : made;
  });
}

const lostRecord = () => ({
  time: iso(Date.now()), kind: "lost", verdict: "unknown", reporter: "unknown", proto: "0", src_ip: "::", dst_ip: "::",
  packets: 0, bytes: 0, reply_packets: 0, reply_bytes: 0, node: "node-2", lost: 1204,
  drop_reason: "ring_full",
});

const streams = new Map();
setInterval(() => {
  for (const [response, query] of streams) {
    const records = some(query, Math.round((1 + Math.random() * 3) * Number(options.speed)), 200);
    if (mode === "lossy" && Math.random() < 0.03) records.push(lostRecord());
    if (records.length > 0) response.write(`event: flows\ndata: ${JSON.stringify(records)}\n\n`);
  }
}, 200);

function json(response, code, body) {
  response.writeHead(code, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

function flows(response, query) {
  const last = Number(query.get("last") ?? 100);
  if (query.get("follow") !== "true" && last === 0) return json(response, 200, { flows: [] });
  if (query.get("follow") !== "true") return json(response, 200, { flows: some(query, Math.min(last, 100), 60_000) });
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  const since = Date.parse(query.get("since") ?? "");
  const spread = Number.isNaN(since) ? 30_000 : Date.now() - since;
  const first = some(query, Math.min(last, 100), spread);
  response.write(`event: flows\ndata: ${JSON.stringify(first)}\n\n`);
  streams.set(response, query);
  response.on("close", () => streams.delete(response));
}

async function file(response, path) {
  const name = normalize(path === "/" || path === "" ? "/index.html" : path);
  try {
    const body = await readFile(join(options.root, name));
    response.writeHead(200, { "content-type": `${TYPES[extname(name)] ?? "application/octet-stream"}; charset=utf-8` });
    response.end(body);
  } catch {
    json(response, 404, { error: `There is nothing at ${path}.` });
  }
}

/** Nobody answers for some seconds. */
function away(seconds) {
  const { port } = server.address();
  server.close();
  setTimeout(() => server.closeAllConnections(), 50); // what is being answered gets its answer
  setTimeout(() => server.listen(port, "127.0.0.1"), seconds * 1000);
}

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://relay");
  if (url.pathname === "/_mock") {
    mode = url.searchParams.get("mode") ?? mode;
    if (url.searchParams.has("away")) away(Number(url.searchParams.get("away")));
    return json(response, 200, { mode });
  }
  if (!url.pathname.startsWith(options.prefix)) return json(response, 404, { error: "Outside the prefix." });
  const path = url.pathname.slice(options.prefix.length);
  if (path === "/api/v1/status") return json(response, 200, status());
  if (mode === "store-down" && path.startsWith("/api/")) return json(response, 503, { error: "The store's disk is full. Free some space." });
  if (path === "/api/v1/hints") return json(response, 200, hints(url.searchParams.get("q") ?? ""));
  const refused = path.startsWith("/api/v1/") && wrong(url.searchParams);
  if (refused) return json(response, 400, refused);
  if (path === "/api/v1/service-map") return json(response, 200, serviceMap(url.searchParams));
  if (path === "/api/v1/timeseries") return json(response, 200, timeseries(url.searchParams));
  if (path === "/api/v1/flows") return flows(response, url.searchParams);
  return file(response, path);
});
server.once("listening", () => {
  console.log(`mock relay on http://127.0.0.1:${server.address().port}${options.prefix}/`);
});
server.listen(Number(options.port), "127.0.0.1");
