import { pause, resume, select } from "../state/actions";
import { formatSelection } from "../state/selection";
import { found, frozen, pausedBehind, question, rows, search, selection, skipped, tab, visibleRows } from "../state/store";
import type { Tab } from "../state/url";
import { count, short } from "../text/format";
import { current } from "./cursor";
import { EdgeTable } from "./EdgeTable";
import { FlowTable } from "./FlowTable";

export function TablePane() {
  return (
    <section class="table" aria-label="Flows and connections">
      <div class="bar">
        <div role="tablist" aria-label="Table" class="tabs">
          <TabButton name="flows" text="Flows" number={visibleRows.value.length} />
          <TabButton name="edges" text="Connections" number={found.value.edges.length} />
        </div>
        <Filters />
        <div class="grow" />
        {tab.value === "flows" && <Follow />}
      </div>
      <div role="tabpanel" class="sheet">
        {tab.value === "flows" && <FlowTable />}
        <EdgeTable visible={tab.value === "edges"} />
      </div>
    </section>
  );
}

function TabButton({ name, text, number }: { name: Tab; text: string; number: number }) {
  return (
    <button role="tab" aria-selected={tab.value === name} onClick={() => (tab.value = name)}>
      {text} <small>{count(number)}</small>
    </button>
  );
}

/** What narrows the table, each with its way out. */
function Filters() {
  const chosen = selection.value;
  return (
    <>
      {chosen && (
        <button class="chip" title="Clear the selection (Esc)" onClick={() => select(undefined)}>
          <span class="name">{formatSelection(chosen).replace("->", " → ")}</span> ×
        </button>
      )}
      {question.value && (
        <button class="chip" title="Clear the search" onClick={() => (search.value = "")}>
          <span class="name">“{question.value}”</span> ×
        </button>
      )}
    </>
  );
}

function Follow() {
  const paused = frozen.value !== undefined;
  const behind = pausedBehind.value;
  const toggle = () => {
    if (!paused) return pause();
    current.value = undefined;
    resume();
  };
  return (
    <>
      {skipped.value > 0 && (
        <span class="note bad-text" title="More records came at once than this page keeps; the relay has them all">
          {short(skipped.value)} too fast to show
        </span>
      )}
      <span class="note">{`newest first, last ${count(rows.value.length)} kept`}</span>
      <button class={paused ? "toggle on" : "toggle"} aria-pressed={paused} onClick={toggle}>
        {paused ? `▶ Go on${behind > 0 ? ` (${short(behind)} new)` : ""}` : "❚❚ Pause"}
      </button>
    </>
  );
}
