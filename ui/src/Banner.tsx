import { link, relayError, serviceMap } from "./state/store";
import { stale } from "./state/views";
import { clock } from "./text/format";

/** Says that what is on show is old. An empty map says it by itself. */
export function Banner() {
  if (!stale.value || !serviceMap.value?.edges.length) return null;
  const why = relayError.value ?? `No answer from the relay since ${clock(link.value.since, false)}.`;
  return (
    <p class="banner" role="alert">
      <b>⚠ {why}</b> {`The map shows what was known at ${clock(serviceMap.value.to, false)}; this page keeps trying.`}
    </p>
  );
}
