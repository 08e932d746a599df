import { signal } from "@preact/signals";
import { pause, select } from "../state/actions";
import type { Row } from "../state/records";
import { recordEnds } from "../state/groups";
import { group, visibleRows } from "../state/store";

/** The row that the keyboard is on, by its id: rows move, ids do not. */
export const current = signal<number | undefined>(undefined);

export function step(by: number): void {
  pause();
  const rows = visibleRows.value;
  const at = rows.findIndex((row) => row.id === current.value);
  const next = at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by));
  current.value = rows[next]?.id;
}

export function pickRow(row: Row | undefined): void {
  if (row === undefined || row.severity === "lost") return;
  current.value = row.id;
  select({ type: "edge", ...recordEnds(row.record, group.value) });
}

export const pickCurrent = (): void => pickRow(visibleRows.value.find((row) => row.id === current.value));
