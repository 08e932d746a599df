"""Where history meets live: one answer from the store and from memory, without gap or duplicate.

1. Memory is looked at first: records that have arrived but are not stored yet are in there.
2. The store is asked. Meanwhile records may arrive, and records of step 1 may get stored.
3. Without an ``await`` in between, memory is looked at again, from where step 1 ended, and the
   subscription starts: what arrives from here on comes live and nothing else does.
4. A record that is in the store's answer and in memory is the same line of text; it is taken once.

A gap is only possible when the store lags further behind than memory reaches (65,536 records) or
when more than that arrive during step 2; the latter is counted and shown as a ``lost`` record.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import numpy as np

from flowobs.batch import Array, FlowBatch
from flowobs.filters import Filter, Mask
from relay.http.parameters import FlowsQuery
from relay.hub import Hub
from relay.lines import TIME_END, Lines
from relay.subscription import Subscription

FetchLines = Callable[[Filter, int], Awaitable[list[bytes]]]
"""(filter, limit) -> the newest stored records that match, newest first."""


class Page(NamedTuple):
    """The history part of an answer."""

    lines: list[bytes]
    """Oldest first."""
    more: bool
    """There are older records that match but were not asked for."""
    missed: int
    """Records that left memory before they could be looked at."""
    live: Subscription | None
    """What comes after ``lines``, when asked to follow."""


async def read(hub: Hub, query: FlowsQuery, fetch: FetchLines) -> Page:
    """History and, when following, the subscription that continues it.

    Raises what ``fetch`` raises and hub.TooManySubscribers. The caller unsubscribes ``live``.
    """
    if not query.last:
        return Page([], False, 0, hub.subscribe(query.filter) if query.follow else None)
    before = hub.recent()
    stored = await fetch(query.bounded, query.last + 1)
    after = hub.recent(before.end)
    live = hub.subscribe(query.filter) if query.follow else None
    try:
        batches = [*before.batches, *after.batches]
        lines = await asyncio.to_thread(_lines, stored, batches, query)
    except BaseException:
        if live is not None:
            hub.unsubscribe(query.filter, live)
        raise
    return Page(lines[-query.last :], len(lines) > query.last, after.missed, live)


def _lines(stored: list[bytes], batches: list[FlowBatch], query: FlowsQuery) -> list[bytes]:
    return merge(stored, newest_lines(batches, query.bounded, query.last + 1))


def newest_lines(batches: list[FlowBatch], filter: Filter, limit: int) -> list[bytes]:
    """The newest ``limit`` records that match (more where times are equal), in any order."""
    mask, line = Mask(filter), Lines()
    hits = [hit for hit in (batch.select(mask(batch)) for batch in batches) if len(hit)]
    times: Array = np.concatenate([hit["time"] for hit in hits]) if hits else np.zeros(0, "<i8")
    if len(times) > limit:
        oldest = np.partition(times, -limit)[-limit]
        hits = [hit.select(hit["time"] >= oldest) for hit in hits]
    return [text for hit in hits for text in line(hit)]


def merge(stored: list[bytes], fresh: list[bytes]) -> list[bytes]:
    """All records, oldest first, each once. ``stored`` comes newest first."""
    not_stored = Counter(fresh) - Counter(stored) if fresh else Counter()
    older_first = [*reversed(stored), *not_stored.elements()]
    return sorted(older_first, key=lambda text: text[:TIME_END])
