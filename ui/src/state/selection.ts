import type { FlowRecord } from "../api/types";
import { covers } from "./fold";
import { recordEnds, type Group } from "./groups";

/** What is picked on the map. An edge without port and proto means all ports between the two ends. */
export type Selection =
  | { type: "node"; id: string }
  | { type: "edge"; source: string; destination: string; port?: number; proto?: string };

export const edgeText = (source: string, destination: string): string => `${source}->${destination}`;

export function formatSelection(s: Selection): string {
  if (s.type === "node") return s.id;
  const pair = edgeText(s.source, s.destination);
  return s.proto === undefined ? pair : `${pair}:${s.port ?? 0}/${s.proto}`;
}

export function parseEdge(text: string): Selection | undefined {
  const arrow = text.indexOf("->");
  if (arrow <= 0 || arrow + 2 >= text.length) return undefined;
  const source = text.slice(0, arrow);
  const rest = text.slice(arrow + 2);
  const port = /^(.+):(\d+)\/([a-z0-9]+)$/.exec(rest);
  if (port === null) return { type: "edge", source, destination: rest };
  return { type: "edge", source, destination: port[1]!, port: Number(port[2]), proto: port[3]! };
}

export function sameSelection(a: Selection | undefined, b: Selection | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.type === b.type && formatSelection(a) === formatSelection(b);
}

/** Whether something between two ends belongs to the selection, ports aside. A folded node has all its members' edges. */
export function touches(s: Selection, between: { source: string; destination: string }): boolean {
  if (s.type === "node") return covers(s.id, between.source) || covers(s.id, between.destination);
  return covers(s.source, between.source) && covers(s.destination, between.destination);
}

/** Whether a record belongs to what is selected on a map by `group`. */
export function selects(selection: Selection, record: FlowRecord, group: Group = "pod"): boolean {
  const { source, destination } = recordEnds(record, group);
  if (!touches(selection, { source, destination })) return false;
  if (selection.type === "node") return true;
  if (selection.proto === undefined) return true;
  // An ICMP record's port is its echo identifier; the map counts all of them as one edge.
  const port = record.proto.startsWith("icmp") ? 0 : (record.dst_port ?? 0);
  return record.proto === selection.proto && port === selection.port;
}
