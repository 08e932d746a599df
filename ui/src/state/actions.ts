// What people do.

import { batch, effect } from "@preact/signals";
import { inNamespace, type Group } from "./groups";
import { sameSelection, type Selection } from "./selection";
import { frozen, frozenAt, group, namespace, received, rows, search, selection, tab, window_ } from "./store";
import { formatView, WINDOWS } from "./url";

export function select(next: Selection | undefined): void {
  if (!sameSelection(selection.value, next)) selection.value = next;
}

/** Ids are those of one grouping: nothing stays selected in another. */
export function groupBy(next: Group): void {
  if (next === group.value) return;
  batch(() => {
    group.value = next;
    selection.value = undefined;
  });
}

/** Looks into one namespace: at what is in it. */
export function openNamespace(name: string): void {
  batch(() => {
    namespace.value = name;
    if (group.value === "namespace" || !inNamespace(group.value)) groupBy("pod");
  });
}

export function pause(): void {
  if (frozen.value !== undefined) return;
  batch(() => {
    frozen.value = rows.value;
    frozenAt.value = received.value;
  });
}

export function resume(): void {
  frozen.value = undefined;
}

/** Esc: the nearest thing first. */
export function clearOne(): void {
  if (selection.value !== undefined) selection.value = undefined;
  else if (search.value !== "") search.value = "";
  else resume();
}

export function widen(): void {
  const next = WINDOWS[WINDOWS.indexOf(window_.value) + 1];
  if (next !== undefined) window_.value = next;
}

/** Keeps the address bar telling what the page shows. */
export function followUrl(): void {
  effect(() => {
    const query = formatView({
      window: window_.value,
      group: group.value,
      namespace: namespace.value,
      search: search.value,
      tab: tab.value,
      selection: selection.value,
    });
    history.replaceState(null, "", `${location.pathname}${query}${location.hash}`);
  });
}
