"""SQL of the service map.

Several observation points see the same flow: interfaces, both ends' nodes, hops between them. So:

1. ``points``: one row per flow (5-tuple) and observation point, with what it counted there.
2. ``flows``: one row per flow, counters of the *best* point only: one that saw packets, of the
   source if possible, else of the destination, else in transit; of several, the one with the most
   packets. Kernel events (drop, retransmit, fail) happen at one place once: all points are added
   up, also those without an interface. A reset is told by the end that sends it and by the end
   that gets it: the larger of both sides counts. Retransmits are events, of which a rate limit and
   a full ring hold some back, and numbers on the flow's records: the larger counts.
3. ``edges``: flows added up by identity of the ends, protocol and port.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flowobs.schema import Kind, Protocol, Reporter
from relay.store.ddl import TABLE
from relay.store.names import NODE_FIELDS, end_id

MAX_EDGES: Final = 5_000
"""Edges in one answer: those with trouble first, then those with most bytes."""
_MAX_ADDRESSES: Final = 16

RANK: Final = (
    f"multiIf(reporter = {Reporter.source:d}, 2, reporter = {Reporter.destination:d}, 1, 0)"
)
_RTT: Final = """multiIf(src_srtt_us > 0, src_srtt_us * toUInt64(1000),
    dst_srtt_us > 0, dst_srtt_us * toUInt64(1000), toUInt64(src_rtt_ns) + dst_rtt_ns)"""
_FLOW: Final = "proto, src_ip, dst_ip, src_port, dst_port"


def edges_sql(condition: str) -> str:
    """Edges of the records that fulfil ``condition``, at most ``MAX_EDGES`` + 1."""
    icmp = f"({Protocol.icmp:d}, {Protocol.icmpv6:d})"
    return f"""SELECT
  best.8 AS source, best.9 AS destination, proto, if(proto IN {icmp}, 0, dst_port) AS port,
  sum(best.1) AS flows, sum(best.2) AS closes, sum(best.3) AS packets, sum(best.4) AS bytes,
  sum(best.5) AS reply_packets, sum(best.6) AS reply_bytes,
  sum(n_drops) AS drops, sum(n_resets) AS resets,
  sum(greatest(n_retransmits, best.12)) AS retransmits, sum(n_fails) AS fails,
  {_median("best.10")} AS connect_ms, {_median("best.11")} AS rtt_ms,
  sumMapIf(reasons, n_drops > 0) AS drop_reasons,
  topK(1)(best.7)[1] AS reporter, min(first) AS first_seen, max(last) AS last_seen
FROM ({_flows_sql(condition)})
GROUP BY source, destination, proto, port
ORDER BY drops + resets + retransmits + fails > 0 DESC, packets + reply_packets DESC
LIMIT {MAX_EDGES + 1}"""


def _median(ns: str) -> str:
    """Of the flows that know it, in milliseconds; NULL where none does."""
    median = f"quantileIf(0.5)({ns}, {ns} > 0) / 1e6"
    return f"if(isNaN({median}), NULL, round({median}, 3))"


def _flows_sql(condition: str) -> str:
    from_source = f"reporter = {Reporter.source:d}"
    return f"""SELECT {_FLOW},
  argMax(
    (if(opens > 0, opens, toUInt64(seen > 0)), closes, p, b, rp, rb, reporter, source, destination,
      connect, rtt, again),
    (seen > 0, {RANK}, p + rp)
  ) AS best,
  sum(drops) AS n_drops, sum(n_again) AS n_retransmits, sum(fails) AS n_fails,
  greatest(sumIf(resets, {from_source}), sumIf(resets, NOT {from_source})) AS n_resets,
  sumMapIf(point_reasons, drops > 0) AS reasons, min(point_first) AS first, max(point_last) AS last
FROM ({_points_sql(condition)})
GROUP BY {_FLOW}"""


def _points_sql(condition: str) -> str:
    traffic = f"kind IN ({Kind.open:d}, {Kind.update:d}, {Kind.close:d})"

    def events(kind: Kind) -> str:  # `lost`: like events the probe held back by its rate limit
        return f"sumIf(1 + lost, kind = {kind:d})"

    return f"""SELECT {_FLOW}, reporter, node, interface,
  countIf(kind = {Kind.open:d}) AS opens, countIf(kind = {Kind.close:d}) AS closes,
  countIf({traffic}) AS seen,
  sum(packets) AS p, sum(bytes) AS b, sum(reply_packets) AS rp, sum(reply_bytes) AS rb,
  max(connect_ns) AS connect, argMaxIf({_RTT}, time, {_RTT} > 0) AS rtt,
  sum(toUInt64(retransmits) + reply_retransmits) AS again,
  {events(Kind.drop)} AS drops, {events(Kind.retransmit)} AS n_again,
  {events(Kind.reset)} AS resets, countIf(kind = {Kind.fail:d}) AS fails,
  sumMapIf(map(toString(drop_reason), 1 + lost), kind = {Kind.drop:d}) AS point_reasons,
  argMax({end_id("src")}, time) AS source, argMax({end_id("dst")}, time) AS destination,
  min(time) AS point_first, max(time) AS point_last
FROM {TABLE}
WHERE ({condition}) AND kind != {Kind.lost:d}
GROUP BY {_FLOW}, reporter, node, interface"""


def nodes_sql(ends: Sequence[str]) -> str:
    """What is known of every end in the UNION of ``ends``."""
    fields = ", ".join(f"argMax({name}, at) AS {name}" for name in NODE_FIELDS)
    return f"""SELECT id, {fields}, groupUniqArray({_MAX_ADDRESSES})(ip) AS addresses
FROM ({" UNION ALL ".join(ends)})
GROUP BY id"""


def ends_sql(condition: str) -> list[str]:
    """Both ends of the records that fulfil ``condition``."""
    condition = f"({condition}) AND kind != {Kind.lost:d}"
    return [one_end_sql(s, end_id(s), "time", TABLE, condition) for s in ("src", "dst")]


def one_end_sql(side: str, id: str, time: str, table: str, condition: str) -> str:
    """One side's ends of a table's rows that fulfil ``condition``, once each."""
    fields = ", ".join(f"{side}_{name} AS {name}" for name in NODE_FIELDS)
    return f"""SELECT {id} AS id, {side}_ip AS ip, {fields},
  ({side}_workload != '', max({time})) AS at
FROM {table}
WHERE {condition}
GROUP BY id, {side}_ip, {", ".join(f"{side}_{name}" for name in NODE_FIELDS)}"""
