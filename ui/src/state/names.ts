// Where names come from, and how fresh they are. Pure.

import type { Status } from "../api/types";
import { span } from "../text/format";

/** Why names may be old, a few words each; none while the relay and its agents are up to date. */
export function staleNames(status: Status | undefined): string[] {
  if (status === undefined) return [];
  const watch = status.identity;
  const reasons: string[] = [];
  if (watch && !watch.ready) reasons.push(`the relay has not learnt those of ${watch.cluster || "its cluster"} yet`);
  for (const { resource, stale, off, age_s, problem } of watch?.resources ?? []) {
    if (!stale || off) continue;
    const since = age_s === null ? "never heard of" : `not heard of for ${span(age_s)}`;
    reasons.push(`${resource} ${since}${problem ? ` (${problem})` : ""}`);
  }
  for (const { agent, connected, names_age_s } of status.agents) {
    if (connected && names_age_s > 0) reasons.push(`agent ${agent} uses some that are ${span(names_age_s)} old`);
  }
  return reasons.length > MOST ? [...reasons.slice(0, MOST), `and ${reasons.length - MOST} more`] : reasons;
}

const MOST = 3;
