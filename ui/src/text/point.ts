/** A refused text around its column: what comes before, the characters that are wrong, and the rest. */
export function point(text: string, column: number): [string, string, string] {
  const at = Math.max(0, Math.min(column - 1, text.length));
  const word = /^[^\s()]*/.exec(text.slice(at))![0] || text.slice(at, at + 1);
  const start = at > 30 ? at - 30 : 0;
  const rest = text.slice(at + word.length);
  return [
    (start > 0 ? "…" : "") + text.slice(start, at),
    word || " ",
    rest.length > 30 ? `${rest.slice(0, 30)}…` : rest,
  ];
}
