import type { MapEdge, ServiceMap } from "../api/types";
import { plural } from "../text/format";

export const edgeKey = (e: Pick<MapEdge, "source" | "destination" | "proto" | "port">): string =>
  `${e.source}->${e.destination}:${e.port}/${e.proto}`;

/** The sentence for the live region: what came or went between two answers, or "" when nothing did. */
export function news(before: ServiceMap | undefined, after: ServiceMap): string {
  if (before === undefined) return "";
  const old = new Set(before.edges.map(edgeKey));
  const now = new Set(after.edges.map(edgeKey));
  const come = after.edges.filter((e) => !old.has(edgeKey(e)));
  const gone = before.edges.filter((e) => !now.has(edgeKey(e))).length;
  const parts: string[] = [];
  if (come.length > 0) {
    const names = come.slice(0, 3).map((e) => `${e.source} to ${e.destination} port ${e.port}`);
    const more = come.length > 3 ? " and more" : "";
    parts.push(`${plural(come.length, "new edge")}: ${names.join(", ")}${more}`);
  }
  if (gone > 0) parts.push(`${plural(gone, "edge")} gone`);
  return parts.join("; ");
}
