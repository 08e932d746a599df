// How often to ask: a page that nobody looks away from takes a tenth of a core of the relay at most.

const LEAST_MS = 10_000;
const MOST_MS = 120_000;

/** How long to wait after an answer that took so long. */
export const pause = (tookMs: number): number => Math.min(MOST_MS, Math.max(LEAST_MS, 10 * tookMs));
