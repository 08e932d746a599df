import { useSignal } from "@preact/signals";
import { formatSelection } from "../state/selection";
import { series } from "../state/series";
import { stale } from "../state/views";
import { question, selection, window_ } from "../state/store";
import { clock, count, milliseconds, rate } from "../text/format";
import { area, bars, HEIGHT, line, peak, type Values } from "./chart";

const CHARTS = [
  { measure: "rate", name: "Rate", text: rate, bad: false },
  { measure: "drops", name: "Drops", text: count, bad: true },
  { measure: "rtt_p95_ms", name: "RTT p95", text: milliseconds, bad: false },
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
      {CHARTS.map(({ measure, name, text, bad }) => (
        <Chart
          key={measure}
          name={name}
          values={shown.values[measure]}
          text={text}
          bad={bad}
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
  bad: boolean;
  at: number | undefined;
  point: (at: number) => void;
}

function Chart({ name, values, text, bad, at, point }: Shown) {
  const most = peak(values);
  const last = values.findLast((value) => value !== null) ?? null;
  const value = at === undefined ? last : (values[at] ?? null);
  const told = value === null ? "–" : text(value);
  const top = last === null ? "" : `peak ${text(most)}`;
  return (
    <figure class={bad && most > 0 ? "bad" : ""} data-series={name}>
      <figcaption>
        {name} <b>{told}</b> <small>{top}</small>
      </figcaption>
      <svg
        viewBox={`0 0 ${values.length || 1} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${name}: ${last === null ? "nothing known" : `now ${text(last)}, ${top}`}`}
        onPointerMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          point(Math.min(values.length - 1, Math.floor(((event.clientX - box.left) / box.width) * values.length)));
        }}
      >
        <path class="area" d={bad ? bars(values) : area(values)} />
        {!bad && <path class="line" d={line(values)} />}
        {at !== undefined && <path class="at" d={`M${at + 0.5} 0V${HEIGHT}`} />}
      </svg>
    </figure>
  );
}
