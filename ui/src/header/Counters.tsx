import type { ComponentChildren } from "preact";
import { status } from "../state/store";
import { lost } from "../state/views";
import { totalLost } from "../state/losses";
import { clock, count, plural, short, span } from "../text/format";

/** A number whose details open on hover and on focus. */
function Detail(props: { class: string; summary: ComponentChildren; name: string; children: ComponentChildren }) {
  return (
    <div class={`detail ${props.class}`} tabIndex={0} data-counter={props.name}>
      <span>{props.summary}</span>
      <div class="pop" role="tooltip">
        {props.children}
      </div>
    </div>
  );
}

export function Agents() {
  const agents = status.value?.agents ?? [];
  const up = agents.filter((a) => a.connected).length;
  const store = status.value?.store;
  const bad = status.value !== undefined && (up < agents.length || up === 0 || store?.healthy === false);
  return (
    <Detail
      class={bad ? "warn" : ""}
      name="agents"
      summary={
        <>
          <b>{agents.length > 0 && up < agents.length ? `${up}/${agents.length}` : up}</b>{" "}
          {agents.length === 1 ? "agent" : "agents"}
        </>
      }
    >
      <table>
        <caption>Agents</caption>
        {agents.length === 0 && (
          <tr>
            <td>None has connected yet.</td>
          </tr>
        )}
        {agents.map((a) => (
          <tr key={a.agent}>
            <th scope="row">{a.agent}</th>
            <td class={a.connected ? "" : "bad-text"}>{a.connected ? "connected" : `gone since ${clock(a.last_seen, false)}`}</td>
            <td class="number">{short(a.rows)} records</td>
            <td class="bad-text">{a.names_age_s > 0 && `names ${span(a.names_age_s)} old`}</td>
          </tr>
        ))}
      </table>
      {store && (
        <p class={store.healthy ? "" : "bad-text"}>
          {store.healthy
            ? `Store: ${plural(store.rows ?? 0, "record")}, ${(store.lag_s ?? 0).toFixed(1)} s behind, kept ${store.retention}. Relay up ${span(status.value!.uptime_s)}.`
            : `Store: ${store.error ?? "not healthy"}`}
        </p>
      )}
      {store?.dropped_early.map(({ table, since, wanted_s }) => (
        <p class="bad-text" key={table}>
          {`${table} kept since ${new Date(since).toLocaleString()}, wanted ${span(wanted_s)}: the disk budget drops older ones.`}
        </p>
      ))}
    </Detail>
  );
}

export function Lost() {
  const all = lost.value;
  const total = totalLost(all);
  return (
    <Detail
      class={total > 0 ? "bad" : ""}
      name="lost"
      summary={
        <>
          {total > 0 && <span aria-hidden="true">⚠ </span>}
          <b>{short(total)}</b> lost
        </>
      }
    >
      <table>
        <caption>Records lost</caption>
        {all.map(({ where, lost }) => (
          <tr key={where}>
            <th scope="row">{where}</th>
            <td class="number">{count(lost)}</td>
          </tr>
        ))}
      </table>
      {total === 0 && <p>No agent and no queue has lost a record.</p>}
    </Detail>
  );
}
