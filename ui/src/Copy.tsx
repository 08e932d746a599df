import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";

/** A command with a button that copies it. Where the page may not write the clipboard, it selects the text instead. */
export function Copy({ text }: { text: string }) {
  const done = useSignal("");
  const code = useRef<HTMLElement>(null);

  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      done.value = "Copied";
    } catch {
      getSelection()?.selectAllChildren(code.current!);
      done.value = "Selected";
    }
    setTimeout(() => (done.value = ""), 1500);
  };
  return (
    <div class="copy">
      {/* Breaks between words only: an option's hyphens are no place to break. */}
      <code ref={code}>{text.split(" ").flatMap((word) => [<span class="word">{word}</span>, " "])}</code>
      <button onClick={() => void copy()} aria-label={`Copy the command ${text}`}>
        {done.value || "Copy"}
      </button>
    </div>
  );
}
