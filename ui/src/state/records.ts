// The newest records the page keeps, newest first. Pure; the state around it is in live.ts.

import type { FlowRecord } from "../api/types";

export const KEPT = 2000;

export interface Row {
  /** Rises with arrival; a row's name for lists and for selection. */
  id: number;
  record: FlowRecord;
  severity: Severity;
}

export type Severity = "bad" | "warn" | "lost" | "ok";

export function severity(r: FlowRecord): Severity {
  if (r.kind === "lost") return "lost";
  if (r.kind === "drop" || r.kind === "reset" || r.kind === "fail") return "bad";
  if (r.verdict === "dropped" || r.verdict === "error") return "bad";
  return r.kind === "retransmit" ? "warn" : "ok";
}

/** One record as one string: the relay has no record ids, and a replay after a reconnect brings some again. */
export const identity = (r: FlowRecord): string =>
  [r.time, r.kind, r.src_ip, r.src_port, r.dst_ip, r.dst_port, r.proto, r.node, r.interface, r.reporter, r.reply].join(
    " ",
  );

let nextId = 1;

export function toRow(record: FlowRecord): Row {
  return { id: nextId++, record, severity: severity(record) };
}

/** `records` come oldest first, as the relay sends them. Known ones are left out; at most KEPT rows remain. */
export function addRecords(rows: readonly Row[], records: readonly FlowRecord[], checkKnown: boolean): Row[] {
  const fresh = records.slice(-KEPT);
  if (checkKnown) return mergeHistory(rows, fresh);
  return [...fresh.map(toRow).reverse(), ...rows].slice(0, KEPT);
}

/** Records of another time than the newest, some of them known: sorted in where they belong. */
export function mergeHistory(rows: readonly Row[], records: readonly FlowRecord[]): Row[] {
  const known = new Set(rows.map((row) => identity(row.record)));
  const others = records.filter((record) => !known.has(identity(record))).map(toRow);
  if (others.length === 0) return rows as Row[];
  return [...rows, ...others].sort((a, b) => (a.record.time < b.record.time ? 1 : -1)).slice(0, KEPT);
}

/** Says in the table itself that the live view had a hole. */
export function gapRecord(from: number, to: number): FlowRecord {
  return {
    time: new Date(from).toISOString(),
    kind: "lost",
    verdict: "unknown",
    reporter: "unknown",
    proto: "",
    src_ip: "",
    dst_ip: "",
    packets: 0,
    bytes: 0,
    reply_packets: 0,
    reply_bytes: 0,
    drop_reason: `connection to the relay was down for ${Math.max(1, Math.round((to - from) / 1000))} s`,
  };
}
