// Live records: from the stream through a bounded queue into the rows, at most four times a second.

import { batch, effect, untracked } from "@preact/signals";
import { getFlows, type Query } from "../api/client";
import { openStream } from "../api/stream";
import type { FlowRecord } from "../api/types";
import { OnePoint } from "./once";
import { asks, both } from "../text/ask";
import { addRecords, gapRecord, KEPT, mergeHistory } from "./records";
import { group, health, namespace, nodesById, question, received, rows, selection, skipped, window_ } from "./store";

const FLUSH_MS = 250;
const BACKLOG = 100;

let queue: FlowRecord[] = [];
let overflow = 0;
let point = new OnePoint();
let timer: ReturnType<typeof setTimeout> | undefined;
/** Set while records may come again: after a (re)connect, until the stream has caught up. */
let replay = true;
let downSince: number | undefined;

function flush(): void {
  timer = undefined;
  const records = queue.filter((record) => point.shows(record));
  queue = [];
  batch(() => {
    rows.value = addRecords(rows.value, records, replay);
    received.value += records.length + overflow;
    skipped.value += overflow;
  });
  overflow = 0;
  replay = false;
}

function take(records: FlowRecord[]): void {
  queue.push(...records);
  if (queue.length > KEPT) {
    overflow += queue.length - KEPT;
    queue = queue.slice(-KEPT);
  }
  timer ??= setTimeout(flush, FLUSH_MS);
}

function setStream(up: boolean, attempt: number): void {
  const before = health.value;
  health.value = {
    ...before,
    streamUp: up,
    attempt,
    everUp: before.everUp || up,
    streamSince: before.streamUp === up ? before.streamSince : Date.now(),
  };
}

/** What to begin with: some of the newest, or, after a break, what came since the newest at hand. */
function missing(): Query {
  const newest = rows.value.find((row) => row.severity !== "lost")?.record.time;
  return newest === undefined ? { last: BACKLOG } : { since: newest, last: KEPT };
}

function follow(chosen: Query): () => void {
  return openStream(() => ({ ...chosen, ...missing() }), {
    open(resumed) {
      // The relay goes on where it was, or says what is missing.
      if (downSince !== undefined && !resumed) take([gapRecord(downSince, Date.now())]);
      downSince = undefined;
      replay = true;
      setStream(true, 0);
    },
    records: take,
    down(attempt) {
      if (health.value.streamUp) downSince = Date.now();
      setStream(false, attempt);
    },
  });
}

/** The rows kept may hold few records of a rare edge: ask the store for more once it is selected. */
async function backfill(): Promise<void> {
  const chosen = selection.value;
  if (chosen === undefined) return;
  const q = asks(chosen, nodesById.value, group.value);
  if (q === "") return;
  try {
    const records = await getFlows({ q: both(question.value, q), since: window_.value, last: 200 });
    if (selection.value === chosen) {
      rows.value = mergeHistory(
        rows.value,
        records.filter((record) => point.shows(record)),
      );
    }
  } catch {
    // The polls say what is wrong with the relay; the rows at hand still stand.
  }
}

export function startLive(): void {
  effect(() => {
    const chosen = { namespace: namespace.value, q: question.value };
    // Only these make a new stream, whatever the stream itself looks at.
    return untracked(() => {
      queue = [];
      point = new OnePoint();
      rows.value = rows.value.filter((row) => row.severity === "lost");
      replay = true;
      downSince = undefined;
      return follow(chosen);
    });
  });
  effect(() => {
    if (selection.value !== undefined) untracked(() => void backfill());
  });
}
