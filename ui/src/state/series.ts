// How the selection, or the whole map, went: asked more rarely than the map, which has the newest numbers.

import { effect, signal, untracked } from "@preact/signals";
import { getTimeSeries, RelayError } from "../api/client";
import type { TimeSeries } from "../api/types";
import { settled, type Values } from "../series/chart";
import { asks, tellable } from "../text/ask";
import { pause } from "./pace";
import { group, namespace, nodesById, question, selection, serviceMap, window_ } from "./store";

export const MEASURES = ["rate", "drops", "rtt_p95_ms"] as const;
type Measure = (typeof MEASURES)[number];

export interface Series {
  at: string[];
  step_s: number;
  values: Record<Measure, Values>;
}

/** Undefined until it is known, and where the relay cannot tell. */
export const series = signal<Series | undefined>(undefined);

/** What the map shows, or the numbers of the selection, whatever is searched for. */
function wanted(): { since: string; namespace: string; q: string } | undefined {
  const chosen = selection.value;
  if (chosen === undefined) return { since: window_.value, namespace: namespace.value, q: question.value };
  // What a selected end is, only the map knows.
  if (!tellable(chosen) || serviceMap.value === undefined) return undefined;
  return { since: window_.value, namespace: namespace.value, q: asks(chosen, nodesById.peek(), group.value) };
}

export function startSeries(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let asked = "";
  /** Not to be asked again before: while an answer is awaited, not at all. */
  let due = 0;

  const ask = async () => {
    clearTimeout(timer);
    const query = wanted();
    const mine = asked;
    if (query === undefined || document.hidden) return;
    const began = performance.now();
    due = Infinity;
    try {
      const [rate, drops, rtt] = await Promise.all(MEASURES.map((measure) => getTimeSeries({ ...query, measure })));
      if (mine !== asked) return;
      const values = (found: TimeSeries) => settled(found.series[0]?.values ?? [], found.at, found.to);
      series.value = {
        at: rate!.at,
        step_s: rate!.step_s,
        values: { rate: values(rate!), drops: values(drops!), rtt_p95_ms: values(rtt!) },
      };
    } catch (error) {
      // An older relay has no series; what else is wrong, the polls say.
      if (error instanceof RelayError && error.status === 404) return;
    }
    if (mine !== asked) return;
    const wait = pause(performance.now() - began);
    due = performance.now() + wait;
    timer = setTimeout(() => void ask(), wait);
  };
  effect(() => {
    const now = JSON.stringify(wanted() ?? null);
    if (now === asked) return;
    asked = now;
    due = 0;
    untracked(() => {
      series.value = undefined;
      void ask();
    });
  });
  document.addEventListener("visibilitychange", () => {
    if (performance.now() >= due) void ask();
  });
}
