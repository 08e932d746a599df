import type { FlowRecord, Hints, ServiceMap, Status, TimeSeries } from "./types";

/** The relay refused or broke: `message` is its own sentence. Anything else thrown by a request means unreachable. */
export class RelayError extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** Where in the question, from 1. */
    readonly column?: number,
  ) {
    super(message);
  }
}

export type Query = Record<string, string | number | boolean | undefined>;

/** The page may live under a path prefix, so addresses are relative to it. */
export function address(path: string, query: Query = {}, base: string = document.baseURI): string {
  const url = new URL(`api/v1/${path}`, base);
  url.search = "";
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") url.searchParams.append(key, String(value));
  }
  return url.href;
}

async function get<T>(path: string, query: Query = {}): Promise<T> {
  const response = await fetch(address(path, query), {
    headers: { accept: "application/json" },
    signal: AbortSignal.timeout(15_000),
  });
  if (response.ok) return (await response.json()) as T;
  let column: number | undefined;
  let message = `The relay answered ${response.status} to ${path}.`;
  try {
    const body: unknown = await response.json();
    if (body && typeof body === "object" && "error" in body) message = String(body.error);
    if (body && typeof body === "object" && "column" in body) column = Number(body.column);
  } catch {
    // A proxy's error page, not the relay's: the status code says it.
  }
  throw new RelayError(response.status, message, column);
}

export const getServiceMap = (query: Query): Promise<ServiceMap> => get("service-map", query);

export const getTimeSeries = (query: Query): Promise<TimeSeries> => get("timeseries", query);

export const getStatus = (): Promise<Status> => get("status");

/** Rejects when the relay does not understand the question; asks for no record. */
export const checkQuestion = (q: string): Promise<unknown> => get("flows", { q, last: 0, format: "json" });

/** What could stand at the end of a question: whole questions, each with a few words about it. */
export async function getHints(q: string, since: string): Promise<{ value: string; label: string }[]> {
  const { start, hints } = await get<Hints>("hints", { q, since });
  return hints.map(({ text, count, about }) => ({ value: q.slice(0, start - 1) + text, label: about ?? `${count} records` }));
}

export const getFlows = async (query: Query): Promise<FlowRecord[]> =>
  (await get<{ flows: FlowRecord[] }>("flows", { ...query, format: "json" })).flows;
