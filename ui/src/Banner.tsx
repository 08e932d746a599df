import { link, relayError, serviceMap } from "./state/store";
import { oldNames, stale } from "./state/views";
import { clock } from "./text/format";

export function Banner() {
  return (
    <>
      <Stale />
      <OldNames />
    </>
  );
}

/** Says that what is on show is old. An empty map says it by itself. */
function Stale() {
  if (!stale.value || !serviceMap.value?.edges.length) return null;
  const why = relayError.value ?? `No answer from the relay since ${clock(link.value.since, false)}.`;
  return (
    <p class="banner" role="alert">
      <b>⚠ {why}</b> {`The map shows what was known at ${clock(serviceMap.value.to, false)}; this page keeps trying.`}
    </p>
  );
}

/** Says that the cluster may be another by now than its names. */
function OldNames() {
  const reasons = oldNames.value;
  if (stale.value || reasons.length === 0) return null;
  return (
    <p class="banner warn" data-names>
      {/* Announced once: ages change all the time. */}
      <b role="alert">⚠ Names may be old:</b> {reasons.join("; ")}.
    </p>
  );
}
