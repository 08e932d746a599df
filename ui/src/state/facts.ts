// What records tell beyond the map, of the newest rows at hand. Pure.

import type { FlowRecord } from "../api/types";
import { socket, span } from "../text/format";
import { endId, type Group } from "./groups";

/** Names and values, in the order to show them. */
export type Facts = [name: string, value: string][];

/** How old the name of an end is: "" where it is up to date. */
export const nameAge = (seconds: number | undefined): string => (seconds ? `name ${span(seconds)} old` : "");

const MOST = 4;

/** What the newest record of an end says of it. `records` come newest first. */
export function endFacts(records: Iterable<FlowRecord>, id: string, group: Group): Facts {
  // Several ends together have no labels of their own.
  if (!["pod", "address", "process"].includes(group)) return [];
  for (const r of records) {
    for (const side of ["src", "dst"] as const) {
      if (endId(r, side, group) !== id || !r[`${side}_kind`]) continue;
      const identity = r[`${side}_identity`];
      const facts: Facts = [
        ["Container", r[`${side}_container`] ?? ""],
        ["Services", r[`${side}_services`]?.replaceAll(",", ", ") ?? ""],
        ["Labels", r[`${side}_labels`]?.replaceAll(",", "\n") ?? ""],
        ["Identity", identity ? String(identity) : ""],
        ["Named by", [r[`${side}_identity_source`], nameAge(r[`${side}_identity_age`])].filter(Boolean).join(", ")],
      ];
      return facts.filter(([, value]) => value !== "");
    }
  }
  return [];
}

/** How packets of an edge travel, as its records say: distinct values, newest first. */
export function wayFacts(records: Iterable<FlowRecord>): Facts {
  const found = new Map<string, Set<string>>();
  const add = (name: string, value: string) => {
    const values = found.get(name);
    if (values) values.add(value);
    else found.set(name, new Set([value]));
  };
  for (const r of records) {
    if (r.virtual_ip) add("Asked for", socket(r.virtual_ip, r.virtual_port ?? 0));
    if (r.snat_ip) add("Seen as", socket(r.snat_ip, 0));
    if (r.tunnel) add("Tunnel", tunnel(r));
    if (r.cast && r.cast !== "unicast") add("Cast", r.cast);
  }
  return ["Asked for", "Seen as", "Tunnel", "Cast"].flatMap((name): Facts => {
    const values = [...(found.get(name) ?? [])];
    const more = values.length > MOST ? `\nand ${values.length - MOST} more` : "";
    return values.length > 0 ? [[name, values.slice(0, MOST).join("\n") + more]] : [];
  });
}

function tunnel(r: FlowRecord): string {
  const ends = r.tunnel_src_ip && r.tunnel_dst_ip ? ` ${r.tunnel_src_ip} → ${r.tunnel_dst_ip}` : "";
  return `${r.tunnel}${r.tunnel_id ? ` ${r.tunnel_id}` : ""}${ends}`;
}
