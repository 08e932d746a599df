import type { MapEdge } from "../api/types";
import { dropReasons, sum } from "../map/graph";
import { mapSeconds } from "../state/store";
import { bytes, clock, count, rate, short, span } from "../text/format";

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
        <thead>
          <tr>
            <td />
            <th scope="col">there →</th>
            <th scope="col">← back</th>
          </tr>
        </thead>
        <tbody>
          <Row name="Rate" there={rate(t.bytes / seconds)} back={rate(t.reply_bytes / seconds)} />
          <Row name="Bytes" there={bytes(t.bytes)} back={bytes(t.reply_bytes)} />
          <Row name="Packets" there={count(t.packets)} back={count(t.reply_packets)} />
        </tbody>
      </table>
      <dl class="counts">
        <Fact name="Flows" value={t.flows} />
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
      <p class="note">
        {clock(first, false)} to {clock(last, false)}, counted at the {reporters}. Rates: average of {span(seconds)}.
      </p>
    </>
  );
}

function Row({ name, there, back }: { name: string; there: string; back: string }) {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td>{there}</td>
      <td>{back}</td>
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
