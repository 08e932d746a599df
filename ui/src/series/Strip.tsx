import { useSignal } from "@preact/signals";
import { formatSelection } from "../state/selection";
import { series } from "../state/series";
import { stale } from "../state/views";
import { question, selection, window_ } from "../state/store";
import { clock, count, milliseconds, rate, span } from "../text/format";
import { area, bars, HEIGHT, last, line, mean, peak, sum, type Values } from "./chart";

const CHARTS = [
  { measure: "rate", name: "Rate", text: rate, all: mean, counted: false },
  { measure: "drops", name: "Drops", text: count, all: sum, counted: true },
  { measure: "rtt_p95_ms", name: "RTT p95", text: milliseconds, all: last, counted: false },
] as const;

/** How the selection, or the whole map, went over the window. */
export function Strip() {
  const shown = series.value;
  const at = useSignal<number | undefined>(undefined);
  if (shown === undefined) return null;
  const chosen = selection.value;
  const what = chosen
    ? formatSelection(chosen).replace("->", " → ")
    : question.value
      ? `“${question.value}”`
      : "Whole map";
  return (
    <section class={`strip ${stale.value ? "stale" : ""}`} aria-label="Over time" onPointerLeave={() => (at.value = undefined)}>
      <p class="of">
        <b title={what}>{what}</b>
        <small>{at.value === undefined ? `last ${window_.value}` : clock(shown.at[at.value] ?? "", false)}</small>
      </p>
      {CHARTS.map(({ measure, name, text, all, counted }) => (
        <Chart
          key={measure}
          name={name}
          values={shown.values[measure]}
          text={text}
          all={all}
          counted={counted}
          step={shown.step_s}
          at={at.value}
          point={(i) => (at.value = i)}
        />
      ))}
    </section>
  );
}

interface Shown {
  name: string;
  values: Values;
  text: (value: number) => string;
  /** One number for all of the time: of values that are known. */
  all: (values: Values) => number;
  /** Adds up, and is trouble: the steps are bars. */
  counted: boolean;
  /** Seconds. */
  step: number;
  at: number | undefined;
  point: (at: number) => void;
}

function Chart({ name, values, text, all, counted, step, at, point }: Shown) {
  const most = peak(values);
  const whole = values.some((value) => value !== null) ? all(values) : null;
  const value = at === undefined ? whole : (values[at] ?? null);
  const told = value === null ? "–" : text(value);
  const top = most > 0 ? `peak ${text(most)}${counted ? ` in ${span(step)}` : ""}` : "";
  return (
    <figure class={counted && most > 0 ? "bad" : ""} data-series={name}>
      <figcaption>
        {name} <b>{told}</b> <small>{top}</small>
      </figcaption>
      <svg
        viewBox={`0 0 ${values.length || 1} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${name}: ${whole === null ? "nothing known" : `${text(whole)} ${top}`}`}
        onPointerMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          point(Math.min(values.length - 1, Math.floor(((event.clientX - box.left) / box.width) * values.length)));
        }}
      >
        <path class="area" d={counted ? bars(values) : area(values)} />
        {!counted && <path class="line" d={line(values)} />}
        {at !== undefined && <path class="at" d={`M${at + 0.5} 0V${HEIGHT}`} />}
      </svg>
    </figure>
  );
}
