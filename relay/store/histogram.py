"""Latencies as histograms that add up: eight buckets to each doubling, from one microsecond on.

A bucket is 9 % wide, and a value between its bounds is interpolated: no quantile is off by more
than 9 %, whichever tables it comes from. Below a microsecond and above an hour there is one bucket.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from relay.store.arrays import Array

TYPE: Final = "Map(UInt8, UInt64)"
"""Bucket -> how many."""
BUCKETS: Final = 256
"""More than any latency needs: the type's."""
_PER_DOUBLING: Final = 8


def bucket(ns: str) -> str:
    """The bucket of a time in nanoseconds that is not 0."""
    exponent = f"{_PER_DOUBLING} * log2(greatest({ns}, 1000) / 1000)"
    return f"toUInt8(least(floor({exponent}), 255))"


def of(ns: str) -> str:
    """An aggregate: the histogram of the times that are not 0."""
    # as arrays it would take no less to count, and 4 ms more to plan
    return f"sumMapIf(map({bucket(ns)}, toUInt64(1)), {ns} > 0)"


def of_samples(buckets: str) -> str:
    """The histogram of an array of buckets."""
    distinct = f"arrayDistinct({buckets})"
    return (
        f"mapFromArrays({distinct}, arrayMap(x -> toUInt64(countEqual({buckets}, x)), {distinct}))"
    )


def quantiles(histogram: str, levels: tuple[float, ...]) -> str:
    """An Array(Nullable(Float64)): milliseconds at each of ``levels``; empty where it is."""
    keys, counts = f"mapKeys(mapSort({histogram}))", f"mapValues(mapSort({histogram}))"
    below = f"arrayCumSum({counts})"
    at = f"arrayFirstIndex(c -> c >= level * {below}[-1], {below})"
    share = f"({below}[{at}] - level * {below}[-1]) / {counts}[{at}]"
    exponent = f"({keys}[{at}] + 1 - {share}) / {_PER_DOUBLING}"
    return (
        f"if(empty({histogram}), [], arrayMap(level -> round(exp2({exponent}) / 1000, 4),"
        f" [{', '.join(map(str, levels))}]))"
    )


def levels_ms(counts: Array, levels: tuple[float, ...], first: int) -> list[list[float]]:
    """Like :func:`quantiles`, of ``counts`` (histograms x buckets from ``first`` on); empty for
    none."""
    below = counts.cumsum(1)
    total = below[:, -1]
    rows = np.arange(len(counts))
    out = np.zeros((len(counts), len(levels)))
    for i, level in enumerate(levels):
        at = (below >= (level * total)[:, None]).argmax(1)
        share = (below[rows, at] - level * total) / np.maximum(counts[rows, at], 1)
        at += first
        out[:, i] = np.round(np.exp2((at + 1 - share) / _PER_DOUBLING) / 1000, 4)
    return [ms if n else [] for ms, n in zip(out.tolist(), total.tolist(), strict=True)]
