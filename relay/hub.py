"""The live hub: recent records in memory, and everybody who follows them.

``publish`` only puts a batch aside. Once per tick the batches put aside become one, every distinct
filter is evaluated once on it, the records that anybody wants become text once, and each subscriber
gets its share. Without records there is no tick. All of it runs in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from itertools import groupby
from secrets import token_hex

import numpy as np

from flowobs.batch import Array, FlowBatch
from flowobs.filters import Filter, Mask
from relay.lines import Lines
from relay.metrics import RelayMetrics
from relay.recent import Recent, Snapshot
from relay.subscription import Chunk, Subscription

_POSITION = re.compile(r"([0-9a-f]{8})-([0-9a-f]{1,15})-([0-9a-f]{1,16})")


def position_ns(position: str) -> int | None:
    """The time (UTC ns) of the newest record before a position, of whatever run; None: no such."""
    found = _POSITION.fullmatch(position)
    return int(found[3], 16) if found else None


class TooManySubscribers(Exception):
    """The limit of live subscribers is reached."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the hub. Rows are flow records."""

    tick_s: float = 0.05
    buffer_rows: int = 65_536
    queue_rows: int = 8_192
    """Most rows a subscriber may have waiting, and most rows made into text in one tick."""
    subscribers: int = 512


class _Group:
    """Subscribers with the same filter."""

    __slots__ = ("mask", "members")

    def __init__(self, filter: Filter) -> None:
        self.mask = Mask(filter)
        self.members: list[Subscription] = []


class Hub:
    """Where ingest meets live subscribers. Inert until the first ``publish``."""

    def __init__(self, metrics: RelayMetrics, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.slow = 0
        """Records lost by slow subscribers since the start."""
        self._metrics = metrics
        self._recent = Recent(self.limits.buffer_rows)
        self._lines = Lines()
        self._groups: dict[Filter, _Group] = {}
        self._pending: list[FlowBatch] = []
        self._pending_rows = 0
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick = 0.0
        self._stopped = False
        # a relay that starts anew numbers anew
        self._run = token_hex(4)
        self._newest_ns = 0
        self._start_ns = time.time_ns()

    def publish(self, batch: FlowBatch, resent: bool) -> None:
        """Take records that have just arrived. Never waits. Resent ones were shown before."""
        rows = len(batch)
        if resent or not rows:
            return
        self._pending.append(batch)
        self._pending_rows += rows
        if self._pending_rows >= self.limits.buffer_rows:
            self.flush()
        elif self._timer is None:
            # At once after a pause: a lone record should not wait for company.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._next_tick), self.flush)

    def flush(self) -> None:
        """Do the tick's work now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._next_tick = asyncio.get_running_loop().time() + self.limits.tick_s
        pending, self._pending, self._pending_rows = self._pending, [], 0
        # ingest starts a new endpoint table now and then; only batches of one table can be joined
        for _, same in groupby(pending, key=lambda batch: id(batch.endpoints)):
            batch = FlowBatch.concat(list(same))
            self._recent.add(batch)
            self._newest_ns = max(self._newest_ns, int(batch["time"].max()))
            if self._groups:
                self._deliver(batch)

    def recent(self, since: int = 0) -> Snapshot:
        """Records in memory from number ``since`` on, in order of arrival, all published ones."""
        self.flush()
        return self._recent.since(since)

    @property
    def position(self) -> str:
        """Where the stream is: what :meth:`since` continues from. For people it means nothing."""
        # before the first record: whoever followed a relay without any has seen all up to its start
        return f"{self._run}-{self._recent.end:x}-{self._newest_ns or self._start_ns:x}"

    def since(self, position: str) -> Snapshot | None:
        """Records in memory that came after ``position``; None where it is of another run."""
        found = _POSITION.fullmatch(position)
        if found is None or found[1] != self._run:
            return None
        return self.recent(int(found[2], 16))

    @property
    def buffered(self) -> int:
        """Rows in memory."""
        return len(self._recent)

    @property
    def oldest_ns(self) -> int | None:
        """How far back memory reaches (UTC ns), or None when it is empty."""
        return self._recent.oldest_ns

    @property
    def subscribers(self) -> int:
        """Live subscribers now."""
        return sum(len(group.members) for group in self._groups.values())

    def subscribe(self, filter: Filter) -> Subscription:
        """Follow records published from now on. Raises TooManySubscribers.

        Together with :meth:`recent`, called before it without an ``await`` in between, nothing is
        missing and nothing comes twice.
        """
        if self.subscribers >= self.limits.subscribers:
            raise TooManySubscribers
        self.flush()
        subscription = Subscription(self.limits.queue_rows, self._count_slow)
        self._groups.setdefault(filter, _Group(filter)).members.append(subscription)
        self._metrics.live_subscribers.set(self.subscribers)
        if self._stopped:
            subscription.close()
        return subscription

    def unsubscribe(self, filter: Filter, subscription: Subscription) -> None:
        """Forget a subscriber."""
        group = self._groups[filter]
        group.members.remove(subscription)
        if not group.members:
            del self._groups[filter]
        self._metrics.live_subscribers.set(self.subscribers)

    def stop(self) -> None:
        """End every subscription once its queue is read."""
        self.flush()
        self._stopped = True
        for group in self._groups.values():
            for subscription in group.members:
                subscription.close()

    def _count_slow(self, rows: int) -> None:
        self.slow += rows
        self._metrics.subscriber_dropped.inc(rows)

    def _deliver(self, batch: FlowBatch) -> None:
        wanted = [(group, np.flatnonzero(group.mask(batch))) for group in self._groups.values()]
        rows: Array = np.unique(np.concatenate([at for _, at in wanted]))
        shown = rows[: self.limits.queue_rows]
        if not len(shown):
            return
        lines = self._lines(batch if len(shown) == len(batch) else batch.select(shown))
        position = self.position
        for group, at in wanted:
            places = np.searchsorted(shown, at[at <= shown[-1]]).tolist()
            mine = lines if len(places) == len(lines) else [lines[i] for i in places]
            chunk = Chunk(mine, position)
            for subscription in group.members:
                if places:
                    subscription.offer(chunk)
                subscription.lose(len(at) - len(places))
