import { shape } from "./shapes";
import { hue } from "./theme";

/** The map's symbol for a kind of end, in the colour of its namespace. */
export function Shape({ kind, group = "" }: { kind: string | undefined; group?: string | undefined }) {
  const { path, name, dashed } = shape(kind);
  return (
    <svg class={group ? "shape grouped" : "shape"} viewBox="-13 -13 26 26" aria-hidden="true" style={group ? { "--hue": hue(group) } : undefined}>
      <title>{name}</title>
      <path d={path} stroke-dasharray={dashed ? "3 3" : undefined} />
    </svg>
  );
}
