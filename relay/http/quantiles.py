"""A latency in steps of time, of all traffic: of its histograms, and what chooses among them.

What counts is what ``rolled`` chooses where steps are parts of units: the best path of each
channel in each step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relay.http.best import Best
from relay.http.queries import Session
from relay.http.rolled import check, groups_of
from relay.http.traffic import Key, level_of
from relay.store import histogram
from relay.store.arrays import Columns
from relay.store.ddl import TABLE
from relay.store.histogram import BUCKETS
from relay.store.paths import MOST, Paths, keys
from relay.store.plan import Slice
from relay.store.rollup import KEYS, LATENCIES, OF_PATH, SUMS


def quantiles(session: Session, paths: Paths, measure: str) -> dict[Key, float]:
    """``measure``, one of ``measures.LATENCIES``, by step's start. Blocks; StoreError.

    ``paths`` must be ``by_unit``.
    """
    latency, level = level_of(measure)
    found: dict[Key, float] = {}
    size = 0
    for parts in paths.stretches(groups_of(session, paths)):
        if points := session.arrays(_sql(paths, parts, latency), paths.parameters):
            found |= _levels(points, level)
            size += len(points["path"])
        check(size)
    return found


def _sql(paths: Paths, parts: Sequence[Slice], latency: str) -> str:
    """A row per ``at`` and path: what chooses, and ``buckets``, each with how many are in it; one
    may come twice."""
    made = {name: how for name, (_, how) in (KEYS | OF_PATH).items()}
    made |= {name: SUMS[name] for name in ("packets", "reply_packets", "seen")}
    made[latency] = LATENCIES[latency]
    pieces = []
    for part in parts:
        # one array is half of the engine's time with two
        both = f"mapKeys({latency}), mapValues({latency})"
        buckets = f"arrayMap((b, n) -> n * {BUCKETS} + b, {both})"
        if part.table == TABLE:
            one = f"toUInt64({BUCKETS} + {histogram.bucket(latency)})"
            buckets = f"if({latency} > 0, [{one}], [])"
        pieces.append(
            f"SELECT {paths.at()} AS at, path, channel, reporter, packets, reply_packets, seen,"
            f" {buckets} AS buckets FROM {paths.rows(part, made)}"
        )
    return f"""SELECT at, path, any(channel) AS channel, any(reporter) AS reporter,
  sum(packets) AS packets, sum(reply_packets) AS reply_packets, sum(seen) AS seen,
  groupArrayArray(buckets) AS buckets
FROM ({" UNION ALL ".join(pieces)}) GROUP BY at, path LIMIT {MOST + 1}"""


def _levels(points: Columns, level: float) -> dict[Key, float]:
    """Milliseconds at ``level``, of each ``at`` where any are known."""
    packets = points["packets"] + points["reply_packets"]
    chosen = Best(points, packets, keys(points, "at", "channel")).chosen
    steps, step = np.unique(points["at"], return_inverse=True)
    counted = np.zeros(len(step), bool)
    counted[chosen] = True
    sizes = np.diff(points["buckets.ends"].astype("<i8"), prepend=0)
    buckets = points["buckets"][np.repeat(counted, sizes)]
    place = np.repeat(step[counted] * BUCKETS, sizes[counted])
    place += (buckets % BUCKETS).astype("<i8")
    counts = np.bincount(place, buckets // BUCKETS, len(steps) * BUCKETS)
    told = histogram.levels_ms(counts.reshape(-1, BUCKETS), (level,), 0)
    return {(at,): ms[0] for at, ms in zip(steps.tolist(), told, strict=True) if ms}
