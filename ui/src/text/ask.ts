// Questions (docs/query.md) that ask for what is selected. Pure.

import type { MapNode } from "../api/types";
import { isAddress, OUTSIDE } from "../state/fold";
import { labelKey, type Group } from "../state/groups";
import type { Selection } from "../state/selection";

type Nodes = ReadonlyMap<string, MapNode>;

/** A value as the language has it: wildcards stay plain where they are quoted. A / divides two names: it is not. */
export const value = (text: string): string => text.split("/").map(quoted).join("/") || '""';

const quoted = (part: string): string =>
  /^[\w.@:=-]*$/.test(part) ? part : `"${part.replaceAll(/[\\"]/g, "\\$&")}"`;

/** The term for one end; undefined where none can tell it. */
function end(side: "src" | "dst", id: string, nodes: Nodes, group: Group): string | undefined {
  const node = nodes.get(id);
  const is = (field: string, text: string) => `${side}.${field}:${value(text)}`;
  if (id === OUTSIDE) return undefined;
  if (id.endsWith("/*")) return is("ns", id.slice(0, -2));
  if (isAddress(id)) return is("ip", id);
  if (id === "world") return `${is("kind", "world")} ${side}.name:""`;
  if (id === "multicast" || id === "broadcast") return `cast:${id}`;
  if (node?.process) {
    return `${end(side, id.slice(0, -node.process.length - 1), nodes, "pod")} ${is("process", node.process)}`;
  }
  const key = labelKey(group);
  if (key !== undefined && id.startsWith(`${key}=`)) return is("label", id);
  if (!node?.kind || node.kind !== GROUP_KINDS[group]) return is("pod", id);
  return is(group === "namespace" ? "ns" : group, id);
}

/** Kinds of nodes that are a group; any other node stands for itself. */
const GROUP_KINDS: Partial<Record<Group, string>> = {
  workload: "group",
  service: "service",
  namespace: "group",
  node: "node",
  zone: "group",
  cluster: "group",
};

/** Whether a question has exactly the records of the selection: addresses without names have none. */
export const tellable = (s: Selection): boolean =>
  s.type === "node" ? s.id !== OUTSIDE : s.source !== OUTSIDE && s.destination !== OUTSIDE;

/** The question for the records of the selection, "" where none can tell. */
export function asks(selection: Selection, nodes: Nodes, group: Group): string {
  if (selection.type === "node") {
    const ends = new Set((["src", "dst"] as const).map((side) => end(side, selection.id, nodes, group)));
    return [...ends].filter(Boolean).join(" or ");
  }
  const { source, destination, port, proto } = selection;
  const terms = [end("src", source, nodes, group), end("dst", destination, nodes, group)];
  if (port) terms.push(`dst.port:${port}`);
  if (proto) terms.push(`proto:${proto}`);
  return terms.filter(Boolean).join(" ");
}

/** Both questions at once. */
export const both = (a: string, b: string): string => (a && b ? `(${a}) (${b})` : a || b);
