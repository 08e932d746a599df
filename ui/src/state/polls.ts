// The map and the status: asked again and again while somebody looks.

import { batch, effect, untracked } from "@preact/signals";
import { getServiceMap, getStatus, RelayError } from "../api/client";
import type { ServiceMap } from "../api/types";
import { assignHues } from "../map/theme";
import { news } from "./diff";
import { grouped, inNamespace } from "./groups";
import {
  allEdges,
  announcement,
  group,
  health,
  matched,
  namespace,
  namespaces,
  now,
  question,
  relayError,
  serviceMap,
  status,
  window_,
} from "./store";

const MAP_MS = 2000;
/** While the map does not show them all: how often to ask what namespaces there are. */
const OTHERS_MS = 30_000;

let othersAt = 0;

export function namesOf(map: ServiceMap): string[] {
  return [...new Set(map.nodes.map((n) => n.namespace ?? "").filter(Boolean))].sort();
}

function setPoll(ok: boolean): void {
  const before = health.value;
  health.value = {
    ...before,
    pollOk: ok,
    everUp: before.everUp || ok,
    pollSince: before.pollOk === ok ? before.pollSince : Date.now(),
  };
}

const asking = (): string => `${window_.value} ${group.value} ${namespace.value} ${question.value}`;
/** The view that the map on show answers: only answers to the same one are compared. */
let answered = "";

async function ask(): Promise<void> {
  const asked = asking();
  const chosen = { since: window_.value, group: group.value, namespace: namespace.value };
  const whole = chosen.namespace === "" && inNamespace(chosen.group);
  const others = !whole && Date.now() - othersAt > OTHERS_MS;
  const q = question.value;
  const [map, part, state, everything] = await Promise.allSettled([
    getServiceMap(chosen),
    q === "" ? undefined : getServiceMap({ ...chosen, q }),
    getStatus(),
    others ? getServiceMap({ since: chosen.since, latency: false }) : undefined,
  ]);
  batch(() => {
    setPoll(answers(map) || answers(state));
    const failed = [map, part].find((result) => result.status === "rejected");
    relayError.value = failed && answers(state) ? sentence(failed.reason) : undefined;
    if (state.status === "fulfilled") status.value = state.value;
    if (everything.status === "fulfilled" && everything.value) learn(everything.value);
    if (map.status === "rejected") return;
    if (whole) learn(map.value);
    // An answer to a question that nobody asks any more is not shown.
    if (asking() !== asked) return;
    if (answered === asked) announcement.value = news(serviceMap.value, map.value) || announcement.value;
    answered = asked;
    serviceMap.value = grouped(map.value);
    matched.value = part.status === "fulfilled" ? part.value : undefined;
  });
}

/** A sentence from the relay means that it is there; a proxy's 502 or 504 does not. */
const answers = (result: PromiseSettledResult<unknown>): boolean =>
  result.status === "fulfilled" ||
  (result.reason instanceof RelayError && result.reason.status !== 502 && result.reason.status !== 504);

const sentence = (error: unknown): string =>
  error instanceof RelayError ? error.message : "The relay took too long to answer. Choose a shorter window.";

/** What there is in all namespaces. */
function learn(all: ServiceMap): void {
  othersAt = Date.now();
  allEdges.value = all.edges.length;
  const names = namesOf(all);
  if (names.join() === namespaces.value.join()) return;
  namespaces.value = names;
  assignHues(names);
}

export function startPolls(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let running = false;
  let again = false;

  const poll = async () => {
    clearTimeout(timer);
    if (running) again = true;
    if (running || document.hidden) return;
    running = true;
    await ask();
    running = false;
    timer = setTimeout(() => void poll(), again ? 0 : MAP_MS);
    again = false;
  };
  document.addEventListener("visibilitychange", () => void poll());
  effect(() => {
    // A new question is asked at once.
    asking();
    othersAt = 0;
    void untracked(poll);
  });
  setInterval(() => {
    if (!document.hidden) now.value = Date.now();
  }, 1000);
}
