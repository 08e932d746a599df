// The page's state: signals only. What changes them: relay.ts (network) and actions.ts (people).

import { computed, signal } from "@preact/signals";
import type { MapNode, ServiceMap, Status } from "../api/types";
import { connection, type Health } from "./connection";
import { fold } from "./fold";
import type { Group } from "./groups";
import type { Refusal } from "./question";
import { KEPT, type Row } from "./records";
import { selects } from "./selection";
import { parseView, type Tab, type Window } from "./url";

const start = parseView(location.search);

export const window_ = signal<Window>(start.window);
/** What the map puts ends together by. */
export const group = signal<Group>(start.group);
export const namespace = signal(start.namespace);
/** What is in the search box, and the question it became: the relay has understood that one. */
export const search = signal(start.search);
export const question = signal(start.search.trim());
export const refusal = signal<Refusal | undefined>(undefined);
export const tab = signal<Tab>(start.tab);
export const selection = signal(start.selection);

export const serviceMap = signal<ServiceMap | undefined>(undefined);
/** The part of the map that answers the question. */
export const matched = signal<ServiceMap | undefined>(undefined);
export const status = signal<Status | undefined>(undefined);
/** Edges in all namespaces, and their names: known even while a namespace is chosen. */
export const allEdges = signal(0);
export const namespaces = signal<string[]>([]);
export const relayError = signal<string | undefined>(undefined);
export const announcement = signal("");

export const health = signal<Health>({
  streamUp: false,
  streamSince: Date.now(),
  pollOk: true,
  pollSince: Date.now(),
  attempt: 0,
  everUp: false,
});
export const link = computed(() => connection(health.value));
/** Ticks each second, for texts like "since 12 s". */
export const now = signal(Date.now());

export const rows = signal<Row[]>([]);
/** What the table shows while it is paused: the rows of that moment. */
export const frozen = signal<Row[] | undefined>(undefined);
/** Records that came faster than the page shows them. */
export const skipped = signal(0);
export const received = signal(0);
export const frozenAt = signal(0);

/** The map as it is drawn: folded where it is crowded. */
export const folded = computed(() => serviceMap.value && fold(serviceMap.value, namespace.value));

/** Every node by its id, and those that stand for several. */
export const nodesById = computed<ReadonlyMap<string, MapNode>>(
  () => new Map([...(serviceMap.value?.nodes ?? []), ...(folded.value?.map.nodes ?? [])].map((n) => [n.id, n])),
);

/** Edges that answer the question, and ids of the nodes on them. */
export const found = computed(() => {
  const map = question.value === "" ? serviceMap.value : (matched.value ?? serviceMap.value);
  const edges = map?.edges ?? [];
  const ids = new Set<string>();
  for (const edge of edges) ids.add(edge.source).add(edge.destination);
  return { edges, ids };
});

export const visibleRows = computed(() => {
  const all = frozen.value ?? rows.value;
  const chosen = selection.value;
  if (chosen === undefined) return all;
  // Losses concern every view: no filter hides them.
  return all.filter((row) => row.severity === "lost" || selects(chosen, row.record, group.value));
});

export const pausedBehind = computed(() =>
  frozen.value === undefined ? 0 : Math.min(received.value - frozenAt.value, KEPT),
);

/** Rates are averages over the window, or over the time for which there are records if that is shorter. */
export const mapSeconds = computed(() => {
  const map = serviceMap.value;
  if (map === undefined) return 1;
  const oldest = status.value?.store.oldest;
  const from = Math.max(Date.parse(map.from), oldest ? Date.parse(oldest) : 0);
  return Math.max(1, (Date.parse(map.to) - from) / 1000);
});
