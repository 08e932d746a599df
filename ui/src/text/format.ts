// Numbers, times and names as people read them. Pure.

const whole = new Intl.NumberFormat("en");

export const count = (n: number): string => whole.format(Math.round(n));

function scaled(n: number, step: number, units: readonly string[]): string {
  let unit = 0;
  let value = n;
  // 999.5 would print as "1000": carry on to the next unit instead.
  while (value >= step - 0.5 && unit < units.length - 1) {
    value /= step;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.5 ? 0 : 1;
  return `${value.toFixed(digits)}${units[unit]}`;
}

/** 12,345,678 -> "12.3M" */
export const short = (n: number): string => scaled(n, 1000, ["", "k", "M", "G", "T"]);

export const bytes = (n: number): string => scaled(n, 1000, [" B", " kB", " MB", " GB", " TB", " PB"]);

/** Below one byte a second still is not nothing. */
export function rate(bytesPerSecond: number): string {
  if (bytesPerSecond > 0 && bytesPerSecond < 1) return "<1 B/s";
  return `${bytes(bytesPerSecond)}/s`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** Seconds as "8 s", "3 min", "2 h", "4 d". */
export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 100) return `${s} s`;
  if (s < 100 * 60) return `${Math.round(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

/** A duration of nanoseconds: "850 µs", "12.3 ms", "4.20 s". */
export function nanoseconds(ns: number): string {
  if (ns < 1e6) return `${Math.round(ns / 1e3)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(1)} ms`;
  return `${(ns / 1e9).toFixed(2)} s`;
}

/** A latency of milliseconds; a dash where nothing tells. */
export const milliseconds = (ms: number | null): string =>
  ms == null ? "–" : ms < 0.1 ? `${Math.round(ms * 1000)} µs` : ms < 10 ? `${ms.toFixed(2)} ms` : nanoseconds(ms * 1e6);

/** A part of a whole in per cent; the smallest is not nothing. */
export function share(part: number, whole: number): string {
  const percent = whole > 0 ? (100 * part) / whole : 0;
  return percent > 0 && percent < 0.01 ? "<0.01 %" : `${percent.toFixed(percent < 1 ? 2 : 1)} %`;
}

const pad = (n: number, digits = 2): string => String(n).padStart(digits, "0");

/** Local time of day with milliseconds. */
export function clock(time: string | number, millis = true): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return "–";
  const text = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return millis ? `${text}.${pad(at.getMilliseconds(), 3)}` : text;
}

/** Cuts the middle out, so that both the name and the part that tells two apart stay readable. */
export function middle(text: string, max: number): string {
  if (text.length <= max) return text;
  const tail = Math.floor((max - 1) / 2);
  return `${text.slice(0, max - 1 - tail)}…${text.slice(text.length - tail)}`;
}

/** An address and port; IPv6 in brackets. */
export function socket(ip: string, port: number): string {
  const host = ip.includes(":") ? `[${ip}]` : ip;
  return port ? `${host}:${port}` : host;
}
