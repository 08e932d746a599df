"""Where history meets live: one answer from the store and from memory, without gap or duplicate.

1. Memory is looked at first: records that have arrived but are not stored yet are in there.
2. The store is asked. Meanwhile records may arrive, and records of step 1 may get stored.
3. Memory is looked at again, from where step 1 ended.
4. A record that is in the store's answer and in memory is the same line of text; it is taken once.

Long answers are read page by page, each of them like that, from where the last one ended: nothing
is held while a reader is slow, neither memory nor one of the few queries that may run.

Who follows has of all that what had arrived before the first page; a late record may come with any
page after that, and is left out. What arrived since is taken from memory in the end, at the moment
when the subscription starts.

A gap is only possible when the store lags further behind than memory reaches (65,536 records) or
when more than that arrive while the store is asked; the latter is counted and shown as a ``lost``
record.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from flowobs.batch import Array, FlowBatch
from flowobs.filters import And, Filter, Mask, Match, Op
from relay.http.cursor import Cursor, place
from relay.http.flows_query import FlowsQuery
from relay.http.parameters import time_bounds
from relay.hub import Hub
from relay.lines import Lines
from relay.recent import Snapshot
from relay.subscription import Subscription

FetchLines = Callable[[Filter, bool, int], Awaitable[list[bytes]]]
"""(filter, newest, limit) -> the ``limit`` newest (else oldest) stored records that match, and all
that have the last one's time."""

Hold = Callable[[list[bytes]], None]
"""Told of lines as they come; raises where they are too many."""

PAGE_ROWS: Final = 5_000
"""Eighty lists of so many values are some 40 MB."""
HELD_ROWS: Final = 25_000
"""A page of an answer that is held as a whole: 5,000 take 1.6 times the CPU."""
_TIES: Final = 64
"""Records of the cursor's time that are expected to have been sent before."""


class Page(NamedTuple):
    """A part of an answer."""

    lines: list[bytes]
    """In the order that was asked for."""
    next: Cursor | None
    """Where the records go on that match but were not asked for; None where there are none."""
    missed: int
    """Records that left memory before they could be looked at."""
    live: Subscription | None = None
    """What comes after ``lines``, of who follows."""
    position: str = ""
    """Where ``live`` begins."""


async def read(hub: Hub, query: FlowsQuery, fetch: FetchLines) -> Page:
    """A page. Raises what ``fetch`` raises."""
    if not query.count:
        return Page([], None, 0)
    before = hub.recent()
    stored = await _stored(query, fetch)
    after = hub.recent(before.end)
    batches = [*before.batches, *after.batches]
    lines, next = await asyncio.to_thread(_page, stored, batches, query)
    return Page(lines, next, after.missed)


async def whole(
    hub: Hub, query: FlowsQuery, fetch: FetchLines, hold: Hold, seam: int | None = None
) -> Page:
    """An answer that is held: page by page, for the engine takes several times what lines do."""
    lines: list[bytes] = []
    next, missed = None, 0
    async for page in pages(hub, query, fetch, HELD_ROWS, seam):
        hold(page.lines)
        lines += page.lines
        next, missed = page.next, missed + page.missed
    if query.newest != query.order_newest:
        lines.reverse()
    return Page(lines, next, missed)


async def followed(hub: Hub, query: FlowsQuery, fetch: FetchLines, hold: Hold) -> Page:
    """Like :func:`whole`, then what came meanwhile, and the subscription that continues it.

    Raises hub.TooManySubscribers, too. The caller unsubscribes ``live``.
    """
    seam = hub.recent().end
    page = await whole(hub, query, fetch, hold, seam)
    rest = await resume(hub, query, hub.recent(seam), hold)
    return rest._replace(lines=page.lines + rest.lines, next=page.next)


async def pages(
    hub: Hub,
    query: FlowsQuery,
    fetch: FetchLines,
    rows: int = PAGE_ROWS,
    seam: int | None = None,
) -> AsyncIterator[Page]:
    """A long answer, in order of ``query.newest``; of memory's records those before number
    ``seam`` only. Raises what ``fetch`` raises."""
    left, omitted = query.count, Counter[bytes]()
    while True:
        part = replace(query, count=min(left, rows), order_newest=query.newest)
        page = await read(hub, part, fetch)
        if seam is not None and page.lines:
            later = hub.recent(seam).batches
            kept = await asyncio.to_thread(_without, page.lines, later, query.filter, omitted)
            page = page._replace(lines=kept)
        yield page
        left -= len(page.lines)
        if page.next is None or left <= 0:
            return
        query = replace(query, after=page.next)


async def resume(hub: Hub, query: FlowsQuery, seen: Snapshot, hold: Hold) -> Page:
    """What came since ``seen`` began, from memory, and the subscription that continues it."""
    live, position = hub.subscribe(query.filter), hub.position
    try:
        lines = await asyncio.to_thread(_matching, seen.batches, query.filter)
        hold(lines)
    except BaseException:
        hub.unsubscribe(query.filter, live)
        raise
    return Page(lines, None, seen.missed, live, position)


async def _stored(query: FlowsQuery, fetch: FetchLines) -> list[bytes]:
    limit = query.count + 1
    if query.after is None:
        return await fetch(query.bounded, query.newest, limit)
    stored = await fetch(query.bounded, query.newest, limit + _TIES)
    if len(stored) >= limit + _TIES and query.after.ties(stored) > _TIES:
        # what was sent before fills the answer; all records of its last time are in it
        last = Cursor.behind(stored, query.newest, None)
        rest = Match("time", Op.lt if query.newest else Op.gt, last.time_ns)
        stored += await fetch(And((query.bounded, rest)), query.newest, limit)
    return stored


def _page(
    stored: list[bytes], batches: list[FlowBatch], query: FlowsQuery
) -> tuple[list[bytes], Cursor | None]:
    limit = query.count + 1 + (_TIES if query.after else 0)
    lines = merge(stored, _memory(batches, query, limit), query.newest)
    if query.after is not None:
        lines = query.after.beyond(lines)
    more = len(lines) > query.count
    lines = lines[: query.count]
    next = Cursor.behind(lines, query.newest, query.after) if more else None
    return lines if query.newest == query.order_newest else lines[::-1], next


def _memory(batches: list[FlowBatch], query: FlowsQuery, limit: int) -> list[bytes]:
    lines = nearest_lines(batches, query.bounded, limit, query.newest)
    if query.after is not None and len(lines) >= limit and query.after.ties(lines) > _TIES:
        return nearest_lines(batches, query.bounded, sum(map(len, batches)), query.newest)
    return lines


def nearest_lines(
    batches: list[FlowBatch], filter: Filter, limit: int, newest: bool
) -> list[bytes]:
    """The newest (else oldest) ``limit`` records that match, and all that have the last one's time,
    in any order."""
    mask, line = Mask(filter), Lines()
    hits = [hit for hit in (batch.select(mask(batch)) for batch in batches) if len(hit)]
    times: Array = np.concatenate([hit["time"] for hit in hits]) if hits else np.zeros(0, "<i8")
    if len(times) > limit:
        if newest:
            oldest = np.partition(times, -limit)[-limit]
            hits = [hit.select(hit["time"] >= oldest) for hit in hits]
        else:
            latest = np.partition(times, limit - 1)[limit - 1]
            hits = [hit.select(hit["time"] <= latest) for hit in hits]
    return [text for hit in hits for text in line(hit)]


def _matching(batches: list[FlowBatch], filter: Filter) -> list[bytes]:
    mask, line = Mask(filter), Lines()
    return [text for batch in batches for text in line(batch.select(mask(batch)))]


def _without(
    lines: list[bytes], later: list[FlowBatch], filter: Filter, omitted: Counter[bytes]
) -> list[bytes]:
    """``lines`` of a page but those of ``later``, of which earlier pages ``omitted`` some."""
    first, last = sorted(Cursor.behind([lines[i]], True, None).time_ns for i in (0, -1))
    of_page = And((filter, *time_bounds(first, last + 1)))
    left = Counter(_matching(later, of_page)) - omitted
    kept = []
    for line in lines:
        if left[line] > 0:
            left[line] -= 1
            omitted[line] += 1
        else:
            kept.append(line)
    return kept


def merge(stored: list[bytes], fresh: list[bytes], newest: bool) -> list[bytes]:
    """All records in order, newest or oldest first, each once."""
    not_stored = Counter(fresh) - Counter(stored) if fresh else Counter()
    return sorted([*stored, *not_stored.elements()], key=place, reverse=newest)
