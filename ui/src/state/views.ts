// What several parts of the page derive from the state.

import { computed } from "@preact/signals";
import { emptyState } from "./empty";
import { losses } from "./losses";
import { staleNames } from "./names";
import { allEdges, found, link, namespace, question, relayError, serviceMap, status, window_ } from "./store";

export const lost = computed(() => losses(status.value));

export const oldNames = computed(() => staleNames(status.value));

export const unreachable = computed(() => link.value.state === "unreachable");

/** The page shows what was, not what is. */
export const stale = computed(() => unreachable.value || relayError.value !== undefined);

export const empty = computed(() =>
  emptyState({
    unreachableSince: unreachable.value ? link.value.since : undefined,
    status: status.value,
    loaded: serviceMap.value !== undefined,
    edges: Math.max(allEdges.value, serviceMap.value?.edges.length ?? 0),
    inNamespace: serviceMap.value?.edges.length ?? 0,
    shown: found.value.edges.length,
    window: window_.value,
    namespace: namespace.value,
    search: question.value,
    relay: location.host,
    error: relayError.value,
  }),
);
