import { computed } from "@preact/signals";
import type { MapEdge } from "../api/types";
import { Shape } from "../map/Shape";
import { select } from "../state/actions";
import { edgeKey } from "../state/diff";
import { empty } from "../state/views";
import { found, mapSeconds, nodesById, selection } from "../state/store";
import { bytes, clock, count, rate, short } from "../text/format";
import { touches } from "../state/selection";
import { troubles } from "../state/totals";

const MOST = 500;

const sorted = computed(() => {
  const chosen = selection.value;
  return found.value.edges
    .filter((e) => chosen === undefined || touches(chosen, e))
    .sort((a, b) => troubles(b) - troubles(a) || b.bytes + b.reply_bytes - a.bytes - a.reply_bytes);
});

/** The map as text: every edge, trouble first. Always on the page, so that nobody needs to see the canvas. */
export function EdgeTable({ visible }: { visible: boolean }) {
  const edges = sorted.value;
  return (
    <div class={visible ? "edges" : "edges hidden"} id="edges">
      <table aria-label="Connections on the map">
        <thead>
          <tr>
            <th scope="col">Source</th>
            <th scope="col">Destination</th>
            <th scope="col">Port</th>
            <th scope="col" class="number">Rate</th>
            <th scope="col" class="number">Bytes ⇄</th>
            <th scope="col" class="number">Packets ⇄</th>
            <th scope="col" class="number">Flows</th>
            <th scope="col">Trouble</th>
            <th scope="col">Last seen</th>
          </tr>
        </thead>
        <tbody>
          {edges.slice(0, MOST).map((edge) => (
            <EdgeRow key={edgeKey(edge)} edge={edge} visible={visible} />
          ))}
        </tbody>
      </table>
      {edges.length > MOST && <p class="note">{count(edges.length - MOST)} more: narrow it down by a search.</p>}
      {edges.length === 0 && <p class="note">{empty.value?.title ?? "No connection belongs to the selection."}</p>}
    </div>
  );
}

function EdgeRow({ edge, visible }: { edge: MapEdge; visible: boolean }) {
  const { source, destination, port, proto } = edge;
  const bad = troubles(edge);
  return (
    <tr class={bad > 0 ? "bad" : ""} data-edge={`${source}->${destination}:${port}`} data-proto={proto} data-bad={bad}>
      <td>
        <End id={source} />
      </td>
      <td>
        <End id={destination} />
      </td>
      <td>
        <button
          class="link"
          tabIndex={visible ? 0 : -1}
          aria-label={`Show ${source} to ${destination} port ${port} ${proto}`}
          onClick={() => select({ type: "edge", source, destination, port, proto })}
        >
          {port || ""} <small>{proto}</small>
        </button>
      </td>
      <td class="number">{rate((edge.bytes + edge.reply_bytes) / mapSeconds.value)}</td>
      <td class="number">{`${bytes(edge.bytes)} / ${bytes(edge.reply_bytes)}`}</td>
      <td class="number">{`${short(edge.packets)} / ${short(edge.reply_packets)}`}</td>
      <td class="number">{count(edge.flows)}</td>
      <td class="why">{troubleWords(edge)}</td>
      <td class="time">{clock(edge.last_seen, false)}</td>
    </tr>
  );
}

function End({ id }: { id: string }) {
  const node = nodesById.value.get(id);
  return (
    <span class="end">
      <Shape kind={node?.kind} group={node?.namespace} />
      <span class="name">{id}</span>
    </span>
  );
}

function troubleWords(e: MapEdge): string {
  const reasons = Object.keys(e.drop_reasons).join(", ");
  const words = [
    e.drops > 0 ? `✕ ${count(e.drops)} dropped${reasons ? ` (${reasons})` : ""}` : "",
    e.resets > 0 ? `✕ ${count(e.resets)} reset` : "",
    e.fails > 0 ? `✕ ${count(e.fails)} failed` : "",
    e.retransmits > 0 ? `↻ ${count(e.retransmits)} retransmitted` : "",
  ];
  return words.filter(Boolean).join(" · ");
}
