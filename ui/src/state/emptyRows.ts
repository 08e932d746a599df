import { computed } from "@preact/signals";
import { relayError, rows, search, selection } from "./store";
import { unreachable } from "./views";

/** Why the table is empty, when it is. */
export const emptyRows = computed(() => {
  if (unreachable.value) return "The relay cannot be reached: no records.";
  if (rows.value.length === 0 && relayError.value) return relayError.value;
  if (rows.value.length === 0) return "No records yet. New ones appear here at once.";
  if (selection.value) return "None of the records at hand belongs to the selection.";
  return `None of the ${rows.value.length} records at hand matches “${search.value.trim()}”.`;
});
