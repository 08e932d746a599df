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
from relay.store.rollup import CHANNEL, SIMPLE, SUMS, from_records, keys, merge_sets

_BEST = (
    "opens", "closes", "packets", "bytes", "reply_packets", "reply_bytes", "active", "opened",
    "flows_here", "reporter", "source", "destination",
)  # fmt: skip
_AT = {name: f"best.{i}" for i, name in enumerate(_BEST, 1)}


def edges_sql(slices: Iterable[Slice], filter: str) -> str:
    """Edges of what fulfils ``filter``, at most ``MAX_EDGES`` + 1."""
    at = _AT
    sums = ", ".join(f"sum({at[name]}) AS {name}" for name in _BEST[1:6])
    flows = (
        f"sum({at['opens']}) + {merge_sets(at['active'], finish=True)}"
        f" - {merge_sets(at['opened'], finish=True)}"
    )
    return f"""SELECT
  {at["source"]} AS source, {at["destination"]} AS destination, proto, port,
  toUInt64({flows}) AS flows, {sums},
  sum(n_drops) AS drops, sum(n_resets) AS resets, sum(n_retransmits) AS retransmits,
  sum(n_fails) AS fails, sumMapIf(reasons, n_drops > 0) AS drop_reasons,
  topKWeighted(1)({at["reporter"]}, greatest({at["flows_here"]}, 1))[1] AS reporter,
  min(channel_first) AS first_seen, max(channel_last) AS last_seen
FROM ({_channels_sql(slices, filter)})
GROUP BY source, destination, proto, port
ORDER BY drops + resets + retransmits + fails > 0 DESC, packets + reply_packets DESC
LIMIT {MAX_EDGES + 1}"""


def _channels_sql(slices: Iterable[Slice], filter: str) -> str:
    from_source = f"reporter = {Reporter.source:d}"
    return f"""SELECT bucket, {CHANNEL},
  argMax(({", ".join(f"p_{name}" if name in _INNER else name for name in _BEST)}),
    (p_seen > 0, {RANK}, p_packets + p_reply_packets)) AS best,
  sum(p_drops) AS n_drops, sum(p_retransmits) AS n_retransmits, sum(p_fails) AS n_fails,
  greatest(sumIf(p_resets, {from_source}), sumIf(p_resets, NOT {from_source})) AS n_resets,
  sumMapIf(p_drop_reasons, p_drops > 0) AS reasons,
  min(p_first) AS channel_first, max(p_last) AS channel_last
FROM ({_points_sql(slices, filter)})
GROUP BY bucket, {CHANNEL}"""


_INNER = {*SUMS, *SIMPLE, "active", "opened"}


def _points_sql(slices: Iterable[Slice], filter: str) -> str:
    """A row per bucket, channel and observation point."""
    sums = ", ".join(f"sum({name}) AS p_{name}" for name in SUMS)
    simple = ", ".join(f"{how}({name}) AS p_{name}" for name, (how, _, _) in SIMPLE.items())
    sets = ", ".join(f"{merge_sets(name)} AS p_{name}" for name in ("active", "opened"))
    rows = " UNION ALL ".join(_rows_sql(part, filter) for part in slices)
    return f"""SELECT bucket, {CHANNEL}, reporter, node, interface,
  argMax(t.source, t.last) AS source, argMax(t.destination, t.last) AS destination,
  {sums}, {simple}, {sets}, {merge_sets("active", finish=True)} AS flows_here
FROM ({rows}) AS t
GROUP BY bucket, {CHANNEL}, reporter, node, interface"""


def _rows_sql(part: Slice, filter: str) -> str:
    if part.table == TABLE:
        return (
            f"SELECT {from_records()} FROM {TABLE} WHERE {_records(part, filter)} GROUP BY {keys()}"
        )
    columns = ", ".join([keys(), *SUMS, *SIMPLE, "active", "opened"])
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
