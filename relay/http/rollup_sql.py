"""SQL of the service map over the rollups, and over records for the ends of its time.

As in ``map_sql``, but what chooses its best observation point is a *channel* (both addresses,
protocol, destination's port) in each of its buckets, not a flow. So the map equals the one of
records wherever all flows of a channel have the same best point during all of the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flowobs.schema import Kind, Reporter
from relay.http.map_sql import MAX_EDGES, RANK, ends_sql, one_end_sql
from relay.store.ddl import TABLE
from relay.store.plan import Slice
from relay.store.rollup import CHANNEL, KEYS, SETS, SIMPLE, SUMS, from_records, keys, merge_sets

_BEST = ("opens", "closes", "packets", "bytes", "reply_packets", "reply_bytes")
_SCORE = (
    f"bitOr(bitShiftLeft(toUInt64(seen > 0), 62), bitShiftLeft(toUInt64({RANK}), 60))"
    " + least(packets + reply_packets, 1000000000000000000)"
)
"""Orders a channel's observation points: one number, because that is what argMax is fast with."""

FIELDS = frozenset(name for name, (_, how) in KEYS.items() if name == how)
"""Fields of records that a filter over rollups may use."""

_UNKNOWN = "CAST(NULL, 'Nullable(Float64)')"
"""Latencies are in records only."""


def edges_sql(slices: Iterable[Slice], filter: str) -> str:
    """Edges of what fulfils ``filter``, at most ``MAX_EDGES`` + 1."""
    sums = ", ".join(f"sum(best_{name}) AS {name}" for name in _BEST[1:])
    flows = (
        f"sum(best_opens) + {merge_sets('active', finish=True)}"
        f" - {merge_sets('opened', finish=True)}"
    )
    return f"""SELECT
  best_source AS source, best_destination AS destination, proto, port,
  toUInt64({flows}) AS flows, {sums},
  sum(n_drops) AS drops, sum(n_resets) AS resets,
  sum(greatest(n_retransmits, best_again)) AS retransmits, sum(n_fails) AS fails,
  {_UNKNOWN} AS connect_ms, {_UNKNOWN} AS rtt_ms, sumMapIf(reasons, n_drops > 0) AS drop_reasons,
  topKWeighted(1)(best_reporter, greatest(best_opens, best_seen, 1))[1] AS reporter,
  min(channel_first) AS first_seen, max(channel_last) AS last_seen
FROM ({_channels_sql(slices, filter)})
GROUP BY source, destination, proto, port
ORDER BY drops + resets + retransmits + fails > 0 DESC, packets + reply_packets DESC
LIMIT {MAX_EDGES + 1}"""


def _channels_sql(slices: Iterable[Slice], filter: str) -> str:
    from_source = f"reporter = {Reporter.source:d}"
    best = ",\n  ".join(
        f"argMax({name}, score) AS best_{name}"
        for name in (*_BEST, "again", "seen", "reporter", "source", "destination")
    )
    # Sets of all points: a flow is the same one wherever it was seen.
    sets = ", ".join(f"{merge_sets(f't.{name}')} AS {name}" for name in SETS)
    return f"""SELECT bucket, {CHANNEL}, {best},
  sum(drops) AS n_drops, sum(retransmit_events) AS n_retransmits, sum(fails) AS n_fails,
  greatest(sumIf(resets, {from_source}), sumIf(resets, NOT {from_source})) AS n_resets,
  sumMapIf(drop_reasons, drops > 0) AS reasons,
  min(first) AS channel_first, max(last) AS channel_last, {sets}
FROM ({_points_sql(slices, filter)}) AS t
GROUP BY bucket, {CHANNEL}"""


def _points_sql(slices: Iterable[Slice], filter: str) -> str:
    """A row per bucket, channel and observation point."""
    sums = ", ".join(f"sum(t.{name}) AS {name}" for name in SUMS if name != "records")
    simple = ", ".join(f"{how}(t.{name}) AS {name}" for name, (how, _, _) in SIMPLE.items())
    sets = ", ".join(f"{merge_sets(f't.{name}')} AS {name}" for name in SETS)
    rows = " UNION ALL ".join(_rows_sql(part, filter) for part in slices)
    return f"""SELECT *, {_SCORE} AS score FROM (
SELECT bucket, {CHANNEL}, reporter, node, interface,
  argMax(t.source, t.last) AS source, argMax(t.destination, t.last) AS destination,
  {sums}, {simple}, {sets}
FROM ({rows}) AS t
GROUP BY bucket, {CHANNEL}, reporter, node, interface)"""


_POINT = f"bucket, {CHANNEL}, reporter, node, interface, source, destination"


def _rows_sql(part: Slice, filter: str) -> str:
    columns = ", ".join([_POINT, *SUMS, *SIMPLE, *SETS])
    if part.table == TABLE:
        rows = (
            f"SELECT {from_records()} FROM {TABLE} WHERE {_records(part, filter)} GROUP BY {keys()}"
        )
        return f"SELECT {columns} FROM ({rows})"
    return f"SELECT {columns} FROM {part.table} WHERE {_buckets(part, filter)}"


def node_ends_sql(slices: Sequence[Slice], filter: str) -> list[str]:
    """Both ends of what fulfils ``filter``, for ``map_sql.nodes_sql``."""
    ends: list[str] = []
    for part in slices:
        if part.table == TABLE:
            ends += ends_sql(_records(part, filter))
            continue
        ends += [
            one_end_sql(side, id, "last", part.table, _buckets(part, filter))
            for side, id in (("src", "source"), ("dst", "destination"))
        ]
    return ends


def _records(part: Slice, filter: str) -> str:
    low, high = (f"fromUnixTimestamp64Nano({ns}, 'UTC')" for ns in (part.from_ns, part.to_ns))
    return f"time >= {low} AND time < {high} AND ({filter}) AND kind != {Kind.lost:d}"


def _buckets(part: Slice, filter: str) -> str:
    low, high = (f"toDateTime({ns // 10**9}, 'UTC')" for ns in (part.from_ns, part.to_ns))
    return f"bucket >= {low} AND bucket < {high} AND ({filter})"
