// A synthetic shop for the mock relay: who there is, who calls whom, and records of it.

const pod = (namespace, name, workload, node, address) => ({
  id: `${namespace}/${name}`, kind: "pod", namespace, name, workload, workload_kind: "Deployment", service: workload,
  node, zone: node === "node-1" ? "zone-a" : "zone-b", addresses: [address],
});

export const NODES = [
  { id: "world", kind: "world", addresses: ["203.0.113.24"] },
  pod("shop", "web-0", "web", "node-1", "10.88.0.10"),
  pod("shop", "web-1", "web", "node-2", "10.88.1.10"),
  pod("shop", "api-0", "api", "node-1", "10.88.0.20"),
  pod("shop", "api-1", "api", "node-2", "10.88.1.20"),
  pod("shop", "cart-6f9c8d7b5-x2kqp", "cart", "node-2", "10.88.1.30"),
  pod("shop", "db-0", "db", "node-1", "10.88.0.40"),
  pod("payments", "pay-0", "pay", "node-1", "10.88.0.50"),
  pod("payments", "fraud-0", "fraud", "node-2", "10.88.1.51"),
  { id: "kube-system/kube-dns", kind: "service", namespace: "kube-system", name: "kube-dns", addresses: ["10.96.0.10"] },
  { id: "legacy-erp", kind: "vm", name: "legacy-erp", addresses: ["192.168.7.15"] },
  { id: "api.stripe.com", kind: "external", name: "api.stripe.com", addresses: ["198.51.100.7"] },
];

const TCP = 6;
/** source, destination, port, flows per second, bytes there and back per flow, chance of trouble and its kind. */
export const CALLS = [
  ["world", "shop/web-0", 443, 9, 900, 24_000],
  ["world", "shop/web-1", 443, 7, 900, 22_000],
  ["shop/web-0", "shop/api-0", 8080, 5, 1200, 6_000],
  ["shop/web-0", "shop/api-1", 8080, 4, 1200, 6_000],
  ["shop/web-1", "shop/api-1", 8080, 5, 1200, 6_000],
  ["shop/api-0", "shop/cart-6f9c8d7b5-x2kqp", 7070, 2, 600, 1_800],
  ["shop/api-1", "shop/cart-6f9c8d7b5-x2kqp", 7070, 2, 600, 1_800, 0.25, "retransmit"],
  ["shop/api-0", "shop/db-0", 5432, 6, 800, 48_000],
  ["shop/api-1", "shop/db-0", 5432, 5, 800, 52_000],
  ["shop/cart-6f9c8d7b5-x2kqp", "shop/db-0", 5432, 2, 500, 3_000],
  ["shop/api-0", "payments/pay-0", 9000, 1, 700, 900],
  ["payments/pay-0", "payments/fraud-0", 9100, 1, 2_000, 400, 0.4, "reset"],
  ["payments/pay-0", "api.stripe.com", 443, 0.7, 3_000, 4_000],
  ["payments/pay-0", "legacy-erp", 1521, 0.5, 400, 0, 0.9, "drop"],
  ["shop/web-0", "kube-system/kube-dns", 53, 2, 80, 160],
  ["shop/api-0", "kube-system/kube-dns", 53, 2, 80, 160],
  ["payments/pay-0", "kube-system/kube-dns", 53, 0.5, 80, 160],
].map(([source, destination, port, perSecond, bytes, reply, chance = 0, trouble = ""]) => ({
  source, destination, port, perSecond, bytes, reply, chance, trouble, proto: port === 53 ? "udp" : "tcp", ip: TCP,
}));

/** Names as an enemy would choose them: an agent reports what DNS or a pod says. */
export function hostile({ nodes, calls }) {
  const evil = `<img src=x onerror="window.pwned=1">`;
  const script = `</script><script>window.pwned=2</script>`;
  return {
    nodes: [
      ...nodes,
      { ...pod("shop", evil, evil, "node-1", "10.88.0.66"), id: `shop/${evil}` },
      { id: script, kind: "external", name: script, addresses: ["198.51.100.66"] },
      { id: "fe80::1", kind: `" onload="window.pwned=3`, addresses: ["fe80::1"] },
    ],
    calls: [
      ...calls,
      { ...calls[0], source: `shop/${evil}`, destination: script },
      { ...calls[0], source: "fe80::1", destination: `shop/${evil}`, chance: 1, trouble: "drop", reason: evil },
    ],
  };
}

/** Many namespaces and pods, for what a crowded map looks like. */
export function crowd(size) {
  const nodes = [];
  const calls = [];
  for (let i = 0; i < size; i++) {
    const namespace = `team-${i % Math.max(1, Math.round(size / 9))}`;
    nodes.push(pod(namespace, `svc-${i}`, `svc-${i}`, `node-${i % 5}`, `10.1.${i >> 8}.${i & 255}`));
    if (i > 0) calls.push({ ...CALLS[2], source: nodes[Math.floor((((i * 2654435761) >>> 8) % 1000) / 1000 * i)].id, destination: nodes[i].id, perSecond: 0.3 });
    if (i > 4) calls.push({ ...CALLS[2], source: nodes[i - 5].id, destination: nodes[i].id, perSecond: 0.2 });
  }
  return { nodes, calls };
}

const time = (ms, nanos) => new Date(ms).toISOString().replace("Z", `${String(nanos % 1e6).padStart(6, "0")}Z`);
let turn = 0;

function end(side, node, port) {
  const fields = { [`${side}_ip`]: node.addresses[0], [`${side}_port`]: port, [`${side}_kind`]: node.kind };
  for (const name of ["namespace", "name", "workload", "workload_kind", "service", "node", "zone"]) {
    if (node[name]) fields[`${side}_${name}`] = node[name];
  }
  if (node.kind === "pod") {
    fields[`${side}_labels`] = `app=${node.workload},tier=${node.namespace === "shop" ? "front" : "back"}`;
    fields[`${side}_services`] = `${node.workload},${node.workload}-headless`;
    fields[`${side}_container`] = node.workload;
    fields[`${side}_identity`] = 16_000 + node.name.length;
    fields[`${side}_identity_source`] = "kubernetes";
  }
  return fields;
}

export function record(call, nodes, at, random = Math.random) {
  const source = nodes.get(call.source);
  const destination = nodes.get(call.destination);
  const troubled = random() < call.chance;
  const kind = troubled ? call.trouble : ["open", "update", "close"][turn % 3];
  const counts = kind === "update" || kind === "close";
  const r = {
    time: time(at, turn++ * 137), kind, verdict: kind === "drop" ? "dropped" : kind === "reset" ? "error" : "forwarded",
    reporter: source.kind === "pod" ? "source" : "destination", proto: call.proto,
    ...end("src", source, 32768 + Math.floor(random() * 28000)), ...end("dst", destination, call.port),
    interface: "veth1a2b", node: source.node ?? destination.node ?? "node-1",
    packets: counts ? 3 + Math.floor(random() * 9) : 0, bytes: counts ? Math.round(call.bytes * (0.5 + random())) : 0,
    reply_packets: counts ? 3 + Math.floor(random() * 20) : 0, reply_bytes: counts ? Math.round(call.reply * (0.5 + random())) : 0,
  };
  if (kind === "close") Object.assign(r, { duration: Math.round(random() * 4e8), close_reason: "fin_source" });
  if (call.port === 8080) Object.assign(r, { virtual_ip: "10.96.0.80", virtual_port: 80 });
  if (call.port === 5432) Object.assign(r, { tunnel: "vxlan", tunnel_id: 42, tunnel_src_ip: "192.168.7.2", tunnel_dst_ip: "192.168.7.3" });
  if (kind === "drop") r.drop_reason = call.reason ?? "NETFILTER_DROP";
  if (kind === "reset") r.close_reason = "reset_destination";
  return r;
}

const latency = (name, ms) => ({
  [`${name}_ms`]: ms, [`${name}_p95_ms`]: ms && ms * 2.4, [`${name}_p99_ms`]: ms && ms * 9,
});

/** What each side counted, of ends that are both observed. */
function path(flows, troubles, lossy, told) {
  const of = (n) => (told ? n : null);
  const loss = lossy ? troubles : 0;
  return {
    sent_packets: of(flows * 6), sent_bytes: of(flows * 900), arrived_packets: of(flows * 6 - loss), arrived_bytes: of(flows * 880),
    reply_sent_packets: of(flows * 7), reply_sent_bytes: of(flows * 900), reply_arrived_packets: of(flows * 7),
    reply_arrived_bytes: of(flows * 900), path_loss: of(loss),
  };
}

export function edge(call, from, to) {
  const seconds = (to - from) / 1000;
  const flows = Math.max(1, Math.round(call.perSecond * seconds));
  const troubles = Math.round(flows * call.chance);
  const of = (kind) => (call.trouble === kind ? troubles : 0);
  return {
    source: call.source, destination: call.destination, proto: call.proto, port: call.port, flows,
    opens: flows, closes: flows, packets: flows * 6, bytes: flows * call.bytes, reply_packets: flows * (call.reply ? 7 : 0),
    reply_bytes: flows * call.reply, drops: of("drop"), resets: of("reset"), retransmits: of("retransmit"), fails: of("fail"),
    ...latency("connect", call.proto === "tcp" && call.reply ? 0.06 * (1 + call.port / 5000) : null),
    ...latency("rtt", call.proto === "tcp" && call.reply ? 0.4 + call.port / 900 : null),
    ...path(flows, troubles, call.trouble === "retransmit", call.port !== 443),
    drop_reasons: of("drop") ? { [call.reason ?? "NETFILTER_DROP"]: troubles } : {},
    reporter: "source", first_seen: time(from, 0), last_seen: time(to - 300, 0),
  };
}
