import { health, link, now, status } from "../state/store";
import { clock, span } from "../text/format";

const TEXT = {
  connecting: "connecting",
  live: "live",
  reconnecting: "reconnecting",
  unreachable: "relay unreachable",
} as const;

export function ConnectionBadge() {
  const { state, since } = link.value;
  const seconds = (now.value - since) / 1000;
  const version = status.value ? ` Relay ${status.value.version}.` : "";
  const attempt = health.value.attempt > 0 ? ` Attempt ${health.value.attempt}.` : "";
  return (
    <p class={`badge ${state}`} data-connection={state} title={`Since ${clock(since, false)}.${attempt}${version}`}>
      <span class="dot" aria-hidden="true" />
      {/* Announced when the state changes, not each second. */}
      <span role="status">{TEXT[state]}</span>
      {state !== "live" && <span class="since">since {clock(since, false)} ({span(seconds)})</span>}
    </p>
  );
}
