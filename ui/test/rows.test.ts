import { expect, test } from "vitest";
import { addRecords, gapRecord, KEPT, mergeHistory, severity } from "../src/state/records";
import { bytesText, lostText, reason, sentence } from "../src/table/cells";
import { scrollTo, slice } from "../src/table/slice";
import { record } from "./records";

const at = (n: number) => record({ time: `2026-01-02T03:04:05.${String(n).padStart(9, "0")}Z` });

test("the newest is first and only so many are kept", () => {
  const many = Array.from({ length: KEPT + 50 }, (_, i) => at(i));
  const rows = addRecords(addRecords([], [at(1), at(2)], false), many, false);
  expect(rows).toHaveLength(KEPT);
  expect(rows[0]!.record.time).toBe(many.at(-1)!.time);
  expect(new Set(rows.map((r) => r.id)).size).toBe(KEPT);
});

test("a replay brings no record twice", () => {
  const rows = addRecords([], [at(1), at(2)], true);
  expect(addRecords(rows, [at(1), at(2), at(3)], true).map((r) => r.record.time)).toEqual(
    [at(3), at(2), at(1)].map((r) => r.time),
  );
});

test("history is sorted in behind what is there", () => {
  const rows = addRecords([], [at(5), at(9)], false);
  const merged = mergeHistory(rows, [at(1), at(5), at(7)]);
  expect(merged.map((r) => r.record.time)).toEqual([at(9), at(7), at(5), at(1)].map((r) => r.time));
  expect(mergeHistory(rows, [at(5)])).toBe(rows);
});

test("severity", () => {
  expect(["drop", "reset", "fail", "retransmit", "lost", "open"].map((kind) => severity(record({ kind })))).toEqual([
    "bad", "bad", "bad", "warn", "lost", "ok",
  ]);
  expect(severity(record({ verdict: "dropped" }))).toBe("bad");
});

test("cells", () => {
  expect(reason(record({ kind: "drop", drop_reason: "NO_SOCKET", lost: 12 }))).toBe("NO_SOCKET · +12 alike");
  expect(reason(record({ kind: "close", close_reason: "fin_source", duration: 12e6 }))).toBe("closed by source · 12.0 ms");
  expect(reason(record({ kind: "fail", close_reason: "refused" }))).toBe("refused");
  const error = { kind: "icmp_error", icmp_type: 3, icmp_ip: "10.0.0.9" };
  expect(reason(record({ ...error, icmp_code: 3, lost: 2 }))).toBe("port unreachable (from 10.0.0.9) · +2 alike");
  expect(reason(record({ ...error, icmp_code: 1 }))).toBe("unreachable (from 10.0.0.9)");
  expect(reason(record({ ...error, src_ip: "fd00::1", icmp_code: 9 }))).toBe("time exceeded (from 10.0.0.9)");
  expect(reason(record({ tunnel: "vxlan", tunnel_id: 42 }))).toBe("in vxlan 42");
  expect(reason(record({ tunnel: "ipip" }))).toBe("in ipip");
  expect(bytesText(record())).toBe("1.2 kB / 4.0 kB");
  expect(bytesText(record({ bytes: 0, reply_bytes: 0 }))).toBe("");
  expect(lostText(record({ kind: "lost", lost: 1204, node: "node-2", drop_reason: "ring_full" }))).toBe(
    "1,204 records lost on node-2 (ring_full)",
  );
  expect(lostText(record({ kind: "lost", lost: 3, node: "node-2", drop_reason: "map_full" }))).toBe(
    "3 packets in no flow on node-2 (map_full)",
  );
  expect(lostText(gapRecord(1000, 13_000))).toBe("Records may be missing (connection to the relay was down for 12 s)");
  expect(sentence(record())).toContain("tcp shop/web-0 10.88.0.10:40000 to shop/api-1 10.88.0.20:8080");
});

test("only rows in sight are on the page", () => {
  expect(slice(0, 270, 27, 2000)).toEqual({ first: 0, last: 18 });
  expect(slice(27_000, 270, 27, 2000)).toEqual({ first: 992, last: 1018 });
  expect(slice(99_999, 270, 27, 10)).toEqual({ first: 2, last: 10 });
  expect(scrollTo(5, 0, 270, 27)).toBe(0);
  expect(scrollTo(20, 0, 270, 27)).toBe(297);
  expect(scrollTo(2, 270, 270, 27)).toBe(54);
});
