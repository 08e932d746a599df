// A flow crosses several interfaces, and each tells of it: a person wants to read it once.
// flowobs/cli/once.py has the same rule; tests/cli/once_cases.json holds both to it.

import type { FlowRecord } from "../api/types";

const FLOWS = 65_536;
/** When the chosen point has said nothing for so long, another one may take over. */
const SILENT_MS = 5000;

const TRAFFIC = new Set<string>(["open", "update", "close"]);

interface Chosen {
  point: string;
  at: number;
}

/** Lets the records of each flow through from one observation point: the first that told of it. */
export class OnePoint {
  #chosen = new Map<string, Chosen>();

  shows(r: FlowRecord): boolean {
    if (r.kind === "lost") return true;
    const kind = TRAFFIC.has(r.kind) || r.kind;
    const flow = [kind, r.proto, r.src_ip, r.src_port, r.dst_ip, r.dst_port, r.icmp_type].join(" ");
    const point = [r.node, r.interface, r.reporter].join(" ");
    const time = Date.parse(r.time);
    const chosen = this.#chosen.get(flow);
    if (chosen !== undefined && chosen.point !== point && Math.abs(time - chosen.at) < SILENT_MS) return false;
    this.#chosen.delete(flow); // a Map forgets in order of insertion
    this.#chosen.set(flow, { point, at: time });
    if (this.#chosen.size > FLOWS) this.#chosen.delete(this.#chosen.keys().next().value as string);
    return true;
  }
}
