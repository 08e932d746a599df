// Values over time as SVG paths, one step a unit wide, in a box as high as HEIGHT. Pure.

export type Values = readonly (number | null)[];

const LAG_MS = 4000;

/** The newest seconds are not stored yet: nothing there is not known to be nothing. */
export function settled(values: Values, at: readonly string[], to: string): Values {
  const known = Date.parse(to) - LAG_MS;
  return values.map((value, i) => (value === 0 && Date.parse(at[i]!) > known ? null : value));
}

export const HEIGHT = 30;

/** The largest value; 0 where there is none. */
export const peak = (values: Values): number => values.reduce<number>((most, v) => Math.max(most, v ?? 0), 0);

/** Those that are known. */
const told = (values: Values): number[] => values.filter((value) => value !== null);

export const sum = (values: Values): number => told(values).reduce((a, b) => a + b, 0);

export const mean = (values: Values): number => sum(values) / told(values).length;

export const last = (values: Values): number => told(values).at(-1)!;

const y = (value: number, top: number): number => (top > 0 ? HEIGHT * (1 - value / top) : HEIGHT);

const point = (i: number, value: number, top: number): string => `${i + 0.5} ${y(value, top).toFixed(2)}`;

/** Stretches of values that are known: [first, last] of each. */
function known(values: Values): [number, number][] {
  const runs: [number, number][] = [];
  values.forEach((value, i) => {
    if (value === null) return;
    const run = runs.at(-1);
    if (run && run[1] === i - 1) run[1] = i;
    else runs.push([i, i]);
  });
  return runs;
}

/** A line with a gap where nothing is known; a lonely value is a dot, as wide as its step. */
export function line(values: Values): string {
  const top = peak(values);
  return known(values)
    .map(([a, b]) => {
      if (a === b) return `M${a} ${y(values[a]!, top).toFixed(2)}h1`;
      return `M${values.slice(a, b + 1).map((value, i) => point(a + i, value!, top)).join("L")}`;
    })
    .join("");
}

/** What is below the line. */
export function area(values: Values): string {
  const top = peak(values);
  return known(values)
    .filter(([a, b]) => a < b)
    .map(([a, b]) => {
      const points = values.slice(a, b + 1).map((value, i) => point(a + i, value!, top));
      return `M${a + 0.5} ${HEIGHT}L${points.join("L")}V${HEIGHT}Z`;
    })
    .join("");
}

/** A bar for each step that has something; a small one is still seen. */
export function bars(values: Values): string {
  const top = peak(values);
  return values
    .map((value, i) => (value ? `M${i} ${HEIGHT}V${Math.min(y(value, top), HEIGHT - 2).toFixed(2)}h1V${HEIGHT}Z` : ""))
    .join("");
}
