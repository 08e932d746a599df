"""A measure in steps of time, of all traffic, from records: of few columns, without who the ends
are.

What counts is what ``Channels`` chooses for all of the traffic: the best point of each flow in each
step.
"""

from __future__ import annotations

import numpy as np

from flowobs.measures import COUNTS
from relay.http.queries import Session
from relay.http.traffic import Key, level_of
from relay.store import histogram
from relay.store.channels import Channels
from relay.store.histogram import BUCKETS


def steps(session: Session, channels: Channels, measure: str) -> dict[Key, float]:
    """``measure`` (bytes, for ``rate``) by step's start; what has nothing is left out. Blocks;
    StoreError."""
    if counters := COUNTS.get(measure):
        table = session.query(channels.total_sql(counters), channels.parameters)
        values = zip(table["at"], table["value"], strict=True)
        return {(at,): value for at, value in values if value}
    latency, level = level_of(measure)
    found = session.arrays(channels.latency_sql(latency), channels.parameters)
    if not found:
        return {}
    sizes = np.diff(found["buckets.ends"].astype("<i8"), prepend=0)
    place = np.repeat(np.arange(len(sizes)) * BUCKETS, sizes) + found["buckets"]
    counts = np.bincount(place, minlength=len(sizes) * BUCKETS).reshape(-1, BUCKETS)
    told = histogram.levels_ms(counts, (level,), 0)
    return {(at,): ms[0] for at, ms in zip(found["at"].tolist(), told, strict=True) if ms}
