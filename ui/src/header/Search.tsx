import { refusal, search } from "../state/store";
import { point } from "../text/point";

export function Search() {
  const wrong = refusal.value;
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
          onInput={(event) => (search.value = event.currentTarget.value)}
        />
        <kbd aria-hidden="true">/</kbd>
      </label>
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
