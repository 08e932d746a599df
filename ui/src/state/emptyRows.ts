import { computed } from "@preact/signals";
import { question, relayError, rows, selection } from "./store";
import { unreachable } from "./views";

/** Why the table is empty, when it is. */
export const emptyRows = computed(() => {
  if (unreachable.value) return "The relay cannot be reached: no records.";
  if (rows.value.length === 0 && relayError.value) return relayError.value;
  if (rows.value.length === 0 && question.value) return `No records match “${question.value}” yet. New ones appear here at once.`;
  if (rows.value.length === 0) return "No records yet. New ones appear here at once.";
  return selection.value ? "None of the records at hand belongs to the selection." : "";
});
