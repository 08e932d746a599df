import type { MapEdge } from "../api/types";
import { mapSeconds } from "../state/store";
import { dropReasons, path, slowest, sum } from "../state/totals";
import { bytes, clock, count, milliseconds, plural, rate, share, short, span } from "../text/format";

/** Everything the relay counted on these edges. */
export function Numbers({ edges }: { edges: readonly MapEdge[] }) {
  const t = sum(edges);
  const seconds = mapSeconds.value;
  const reasons = dropReasons(edges);
  const first = edges.reduce((a, e) => (e.first_seen < a ? e.first_seen : a), edges[0]!.first_seen);
  const last = edges.reduce((a, e) => (e.last_seen > a ? e.last_seen : a), edges[0]!.last_seen);
  const reporters = [...new Set(edges.map((e) => e.reporter))].join(", ");
  return (
    <>
      <table class="numbers">
        <Heads names={["there →", "← back"]} />
        <tbody>
          <Row name="Rate" values={[rate(t.bytes / seconds), rate(t.reply_bytes / seconds)]} />
          <Row name="Bytes" values={[bytes(t.bytes), bytes(t.reply_bytes)]} />
          <Row name="Packets" values={[count(t.packets), count(t.reply_packets)]} />
        </tbody>
      </table>
      <dl class="counts">
        <Fact name="Flows" value={t.flows} />
        <Fact name="Opens" value={t.opens} />
        <Fact name="Retrans." value={t.retransmits} tone="warn" />
        <Fact name="Resets" value={t.resets} tone="bad" />
        <Fact name="Fails" value={t.fails} tone="bad" />
        <Fact name="Drops" value={t.drops} tone="bad" />
      </dl>
      {reasons.length > 0 && (
        <ul class="reasons" aria-label="Drops by reason">
          {reasons.map(([reason, n]) => (
            <li key={reason}>
              <code>{reason}</code> <b>{count(n)}</b>
            </li>
          ))}
        </ul>
      )}
      <Latency edges={edges} />
      <Path edges={edges} />
      <p class="note">
        {clock(first, false)} to {clock(last, false)}, counted at the {reporters}. Rates: average of {span(seconds)}.
      </p>
    </>
  );
}

function Latency({ edges }: { edges: readonly MapEdge[] }) {
  const ms = slowest(edges);
  const several = edges.filter((e) => e.connect_ms != null || e.rtt_ms != null).length > 1;
  const connect = [ms.connect_ms, ms.connect_p95_ms, ms.connect_p99_ms];
  const rtt = [ms.rtt_ms, ms.rtt_p95_ms, ms.rtt_p99_ms];
  if ([...connect, ...rtt].every((value) => value == null)) return null;
  return (
    <table class="numbers" data-latency title={several ? "Of several connections: none has more" : undefined}>
      <Heads names={["p50", "p95", "p99"]} corner={several ? "at most" : ""} />
      <tbody>
        <Row name="Connect" values={connect.map(milliseconds)} />
        <Row name="RTT" values={rtt.map(milliseconds)} />
      </tbody>
    </table>
  );
}

/** Sent and arrived side by side, where both sides told. */
function Path({ edges }: { edges: readonly MapEdge[] }) {
  const p = path(edges);
  if (p.path_loss === null) return null;
  const sent = (p.sent_packets ?? 0) + (p.reply_sent_packets ?? 0);
  return (
    <>
      <table class="numbers" data-path>
        <Heads names={["there →", "← back"]} corner="packets" />
        <tbody>
          <Row name="Sent" values={[count(p.sent_packets ?? 0), count(p.reply_sent_packets ?? 0)]} />
          <Row name="Arrived" values={[count(p.arrived_packets ?? 0), count(p.reply_arrived_packets ?? 0)]} />
        </tbody>
      </table>
      <p class={p.path_loss > 0 ? "loss warn-text" : "loss note"}>
        {p.path_loss > 0
          ? `${plural(p.path_loss, "packet")} lost on the path (${share(p.path_loss, sent)})`
          : "Nothing lost on the path."}
      </p>
    </>
  );
}

function Heads({ names, corner = "" }: { names: readonly string[]; corner?: string }) {
  return (
    <thead>
      <tr>
        <td>{corner}</td>
        {names.map((name) => (
          <th key={name} scope="col">
            {name}
          </th>
        ))}
      </tr>
    </thead>
  );
}

function Row({ name, values }: { name: string; values: readonly string[] }) {
  return (
    <tr>
      <th scope="row">{name}</th>
      {values.map((value, i) => (
        <td key={i}>{value}</td>
      ))}
    </tr>
  );
}

function Fact({ name, value, tone = "" }: { name: string; value: number; tone?: string }) {
  return (
    <div class={value > 0 ? tone : ""}>
      <dt>{name}</dt>
      <dd title={count(value)}>{short(value)}</dd>
    </div>
  );
}
