import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { getHints } from "../api/client";
import { refusal, search, window_ } from "../state/store";
import { point } from "../text/point";

const HINTS_MS = 120;

export function Search() {
  const wrong = refusal.value;
  const hints = useSignal<{ value: string; label: string }[]>([]);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const ask = (text: string) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(async () => {
      // Without hints the box works as well: what is wrong with the relay is said elsewhere.
      const found = await getHints(text, window_.value).catch(() => []);
      if (search.value === text) hints.value = found;
    }, HINTS_MS);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <div class="search">
      <label>
        <span class="hidden">Ask for nodes and flows</span>
        <input
          id="search"
          type="search"
          placeholder="web, 10.0.0.0/8, :443, kind:drop"
          title="One language for questions: docs/query.md"
          spellcheck={false}
          autocomplete="off"
          autocapitalize="off"
          value={search}
          aria-invalid={wrong !== undefined}
          aria-describedby={wrong && "search-wrong"}
          list="search-hints"
          onFocus={() => ask(search.value)}
          onInput={(event) => {
            search.value = event.currentTarget.value;
            ask(search.value);
          }}
        />
        <kbd aria-hidden="true">/</kbd>
      </label>
      <datalist id="search-hints">
        {hints.value.map(({ value, label }) => (
          <option key={value} value={value} label={label} />
        ))}
      </datalist>
      {wrong && <Wrong text={wrong.text} sentence={wrong.sentence} column={wrong.column} />}
    </div>
  );
}

function Wrong({ text, sentence, column }: { text: string; sentence: string; column: number }) {
  const [before, at, after] = point(text, column);
  return (
    <div id="search-wrong" class="wrong" role="alert">
      <p>{sentence}</p>
      <code data-column={column}>
        {before}
        <mark>{at}</mark>
        {after}
      </code>
    </div>
  );
}
