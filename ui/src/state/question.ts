// The search box: what is typed becomes the question that the relay answers, once the relay understands it.

import { batch, effect, untracked } from "@preact/signals";
import { checkQuestion, RelayError } from "../api/client";
import { question, refusal, search } from "./store";

/** Nobody types a key more slowly and waits for an answer in between. */
const PAUSE_MS = 250;

export interface Refusal {
  text: string;
  sentence: string;
  /** Where in the text, from 1. */
  column: number;
}

/** Why the relay does not understand `text`; undefined when it does. Anything else wrong is not the question's fault. */
async function refused(text: string): Promise<Refusal | undefined> {
  if (text === "") return undefined;
  try {
    await checkQuestion(text);
  } catch (error) {
    if (error instanceof RelayError && error.status === 400) {
      return { text, sentence: error.message, column: error.column ?? 1 };
    }
  }
  return undefined;
}

export function startQuestion(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const ask = async (text: string, otherwise: string) => {
    const wrong = await refused(text);
    if (search.value.trim() !== text) return;
    batch(() => {
      refusal.value = wrong;
      question.value = wrong === undefined ? text : otherwise;
    });
  };
  let first = true;
  effect(() => {
    const text = search.value.trim();
    clearTimeout(timer);
    untracked(() => {
      // The address is asked at once; while somebody types, the last question that was understood stands.
      if (first) void ask(text, "");
      else if (text === "") batch(() => ((refusal.value = undefined), (question.value = "")));
      else timer = setTimeout(() => void ask(text, question.value), PAUSE_MS);
    });
    first = false;
  });
}
