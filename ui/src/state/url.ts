import { parseGroup, type Group } from "./groups";
import { formatSelection, parseEdge, type Selection } from "./selection";

export const WINDOWS = ["1m", "5m", "15m", "1h"] as const;
export type Window = (typeof WINDOWS)[number];
export const WINDOW_SECONDS: Record<Window, number> = { "1m": 60, "5m": 300, "15m": 900, "1h": 3600 };

export const TABS = ["flows", "edges"] as const;
export type Tab = (typeof TABS)[number];

/** Everything that makes one view of the page; a link to it shows the same to somebody else. */
export interface View {
  window: Window;
  group: Group;
  namespace: string;
  search: string;
  tab: Tab;
  selection: Selection | undefined;
}

const oneOf = <T extends string>(values: readonly T[], value: string | null, otherwise: T): T =>
  values.includes(value as T) ? (value as T) : otherwise;

export function parseView(search: string): View {
  const q = new URLSearchParams(search);
  const node = q.get("node");
  const edge = q.get("edge");
  return {
    window: oneOf(WINDOWS, q.get("window"), "5m"),
    group: parseGroup(q.get("group")),
    namespace: q.get("namespace") ?? "",
    search: q.get("search") ?? "",
    tab: oneOf(TABS, q.get("tab"), "flows"),
    selection: node ? { type: "node", id: node } : edge ? parseEdge(edge) : undefined,
  };
}

/** Defaults are left out, so that the plain page has a plain address. */
export function formatView(view: View): string {
  const q = new URLSearchParams();
  if (view.window !== "5m") q.set("window", view.window);
  if (view.group !== "pod") q.set("group", view.group);
  if (view.namespace) q.set("namespace", view.namespace);
  if (view.search) q.set("search", view.search);
  if (view.tab !== "flows") q.set("tab", view.tab);
  if (view.selection) q.set(view.selection.type, formatSelection(view.selection));
  // Slashes, colons and arrows are legal in a query and far easier to read.
  const text = q.toString().replaceAll("%2F", "/").replaceAll("%3A", ":").replaceAll("-%3E", "->");
  return text ? `?${text}` : "";
}
