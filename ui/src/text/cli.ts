import type { MapNode } from "../api/types";
import { OUTSIDE } from "../state/fold";
import type { Group } from "../state/groups";
import type { Selection } from "../state/selection";
import { asks, both } from "./ask";

/** A word for a POSIX shell. */
export function quote(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** What names an end on the command line: a node that only has an address cannot be asked for by name. */
function named(id: string, nodes: ReadonlyMap<string, MapNode>): string | undefined {
  return nodes.get(id)?.name && id !== OUTSIDE ? id : undefined;
}

const DEFAULT_SERVER = /^http:\/\/(127\.0\.0\.1|localhost):8080\/$/;

/** The `flows` command that shows the records behind a selection (or behind the page, when there is none). */
export function command(
  selection: Selection | undefined,
  window: string,
  namespace: string,
  nodes: ReadonlyMap<string, MapNode>,
  server = "http://127.0.0.1:8080/",
  search = "",
  group: Group = "pod",
): string {
  // Of a map by pod, options say it in fewer words.
  const asked = selection && group !== "pod" ? asks(selection, nodes, group) : "";
  const question = both(search, asked);
  const words = ["flows", ...(question === "" ? [] : ["tail"]), "--since", window];
  const add = (option: string, value: string | number | undefined) => {
    if (value !== undefined && value !== "") words.push(option, String(value));
  };
  if (group !== "pod") {
    // The question names the ends.
  } else if (selection?.type === "node") {
    add("--pod", named(selection.id, nodes));
  } else if (selection?.type === "edge") {
    // Different options must all match, the same one twice means "either": so one end is named, the rarer one.
    add("--pod", named(selection.source, nodes) ?? named(selection.destination, nodes));
    add("--port", selection.port || undefined);
    add("--proto", selection.proto);
  }
  if (!words.includes("--pod")) add("--namespace", namespace);
  if (!DEFAULT_SERVER.test(server)) add("--server", server.replace(/\/$/, ""));
  // What begins with a dash would be an option, and no word of a question a command.
  if (question !== "") words.push(...(question.startsWith("-") ? ["--"] : []), question);
  return words.map(quote).join(" ");
}
