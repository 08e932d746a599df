import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { pause, resume } from "../state/actions";
import { emptyRows } from "../state/emptyRows";
import { frozen, visibleRows } from "../state/store";
import { current, pickCurrent, step } from "./cursor";
import { FlowRow, ROW_HEIGHT } from "./FlowRow";
import { scrollTo, slice } from "./slice";

const COLUMNS = ["Time", "Source", "Destination", "Proto", "Kind", "Verdict, reason", "Packets ⇄", "Bytes ⇄", "Seen at"];
const NUMBERS = new Set(["Packets ⇄", "Bytes ⇄"]);

export function FlowTable() {
  const body = useRef<HTMLDivElement>(null);
  const top = useSignal(0);
  const height = useSignal(400);
  const rows = visibleRows.value;
  const { first, last } = slice(top.value, height.value, ROW_HEIGHT, rows.length);

  useEffect(() => {
    const observer = new ResizeObserver(() => (height.value = (body.current?.clientHeight ?? 400) - ROW_HEIGHT));
    observer.observe(body.current!);
    return () => observer.disconnect();
  }, []);
  // The keyboard's row stays in sight.
  const at = rows.findIndex((row) => row.id === current.value);
  useEffect(() => {
    const box = body.current;
    if (box && at >= 0 && frozen.value) box.scrollTop = scrollTo(at, box.scrollTop, box.clientHeight - ROW_HEIGHT, ROW_HEIGHT);
  }, [current.value]);
  // Live again: back to the newest.
  const live = frozen.value === undefined;
  useEffect(() => {
    if (live && body.current) body.current.scrollTop = 0;
  }, [live]);

  const onScroll = () => {
    const before = top.value;
    top.value = body.current!.scrollTop;
    // Who scrolls down reads: rows stop moving. Who comes back to the top wants the newest.
    if (top.value > ROW_HEIGHT) pause();
    else if (top.value === 0 && before > 0 && current.value === undefined) resume();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.floor(height.value / ROW_HEIGHT) - 1);
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    const by = steps[event.key];
    if (by !== undefined) step(by);
    else if (event.key === "Enter") pickCurrent();
    else return;
    event.preventDefault();
  };

  const empty = rows.length === 0 ? emptyRows.value : "";
  return (
    <div
      class="flows"
      ref={body}
      role="grid"
      aria-label="Flow records, newest first"
      aria-rowcount={rows.length + 1}
      tabIndex={0}
      aria-activedescendant={at >= 0 ? `row-${current.value}` : undefined}
      onScroll={onScroll}
      onKeyDown={onKeyDown}
    >
      <div class="row head" role="row" aria-rowindex={1}>
        {COLUMNS.map((name) => (
          <span key={name} role="columnheader" class={NUMBERS.has(name) ? "number" : ""}>
            {name}
          </span>
        ))}
      </div>
      {empty && <p class="note">{empty}</p>}
      <div class="all" role="rowgroup" style={{ height: `${rows.length * ROW_HEIGHT}px` }}>
        {rows.slice(first, last).map((row, i) => (
          <FlowRow key={row.id} row={row} index={first + i} current={row.id === current.value} />
        ))}
      </div>
    </div>
  );
}
