import { address, type Query } from "./client";
import type { FlowRecord } from "./types";

export interface StreamEvents {
  /** `resumed`: it goes on where the last one broke off. */
  open(resumed: boolean): void;
  records(records: FlowRecord[]): void;
  down(attempt: number): void;
}

/** Seconds until attempt `n` (1, 2, ...): doubles up to 10 s, with jitter so that a restart is not met by a herd. */
export function backoff(attempt: number, random: () => number = Math.random): number {
  const full = Math.min(10, 0.5 * 2 ** attempt);
  return full * (0.7 + 0.3 * random());
}

/**
 * Live records. EventSource retries by itself only while the server answers 200, asks the same question again and
 * never slows down; so each break closes it and a new one opens after the backoff. `query` is asked at each opening.
 */
export function openStream(query: () => Query, events: StreamEvents): () => void {
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let attempt = 0;
  let seen = "";

  const connect = () => {
    const resumed = seen !== "";
    source = new EventSource(address("flows", { ...query(), follow: true, format: "sse", resume: seen }));
    source.onopen = () => {
      attempt = 0;
      events.open(resumed);
    };
    source.addEventListener("alive", (event: MessageEvent<string>) => {
      seen = event.lastEventId || seen;
    });
    source.addEventListener("flows", (event: MessageEvent<string>) => {
      seen = event.lastEventId || seen;
      events.records(JSON.parse(event.data) as FlowRecord[]);
    });
    source.onerror = () => {
      source?.close();
      attempt += 1;
      events.down(attempt);
      timer = setTimeout(connect, backoff(attempt) * 1000);
    };
  };
  connect();

  return () => {
    clearTimeout(timer);
    source?.close();
  };
}
