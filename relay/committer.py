"""From closed commit groups to rows in the store, once each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flowobs.batch import FlowBatch
from relay.metrics import RelayMetrics

log = logging.getLogger(__name__)

MAX_QUEUE_ROWS = 200_000
"""Records that may wait for the store (about 50 MB); agents wait beyond that."""

_RETRY_FIRST, _RETRY_MOST = 0.1, 10.0
_INSERTS_PER_SECOND = 20


@dataclass(slots=True, eq=False)
class Group:
    """A closed commit group: one agent's records, in order, to be stored all or none.

    ``stored`` is called on the event loop once they are durable.
    """

    agent: str
    epoch: int
    number: int
    batches: list[FlowBatch]
    rows: int
    stored: Callable[[], None]
    received: float = field(default_factory=time.monotonic)

    @property
    def token(self) -> str:
        """The group's name in the store's deduplication window."""
        return f"{self.agent}/{self.epoch}/{self.number}"


class Committer(Protocol):
    """Stores groups: each exactly once, those of one agent in order."""

    @property
    def lag_s(self) -> float:
        """Age of the oldest group that is not stored yet; 0 where there is none."""
        ...

    @property
    def error(self) -> str | None:
        """Why groups cannot be stored at the moment."""
        ...

    @property
    def queue_rows(self) -> int:
        """Records not stored yet."""
        ...

    def start(self) -> None:
        """Begin to store; needs a running event loop."""
        ...

    async def submit(self, group: Group) -> None:
        """Take a group over; waits while too much is queued."""
        ...

    def group_interval_ms(self, agents: int) -> int:
        """How long ``agents`` agents should collect a group, so that inserts stay affordable."""
        ...

    async def stop(self, patience: float) -> int:
        """Store what is queued for up to ``patience`` seconds; the rows that were left."""
        ...


class Sink(Protocol):
    """What a committer needs of the store."""

    retention_s: int

    def insert(self, batches: Sequence[FlowBatch], token: str) -> None: ...


class DirectCommitter:
    """One insert per group, under the group's own token: no state besides the store.

    A resent group that the store has is a no-op there. A failing insert is tried again until it
    works, its reason shown as ``error``, while ``submit`` makes agents wait. The thread that
    inserts never ends silently: ``on_death`` is called on the event loop and must end the process.
    """

    def __init__(
        self,
        store: Sink,
        metrics: RelayMetrics,
        on_death: Callable[[BaseException], None],
        *,
        max_queue_rows: int = MAX_QUEUE_ROWS,
        retry_first: float = _RETRY_FIRST,
    ) -> None:
        self.error: str | None = None
        self._store = store
        self._metrics = metrics
        self._on_death = on_death
        self._max_queue_rows = max_queue_rows
        self._retry_first = retry_first
        self._groups: deque[Group] = deque()
        self._rows = 0
        self._ready = threading.Condition()
        self._draining = False
        self._stopping = threading.Event()
        self._room = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        metrics.store_lag.set_function(lambda: self.lag_s)
        metrics.queue_rows.set_function(lambda: self._rows)

    @property
    def lag_s(self) -> float:
        """Age of the oldest group that is not stored yet; 0 where there is none."""
        try:
            return time.monotonic() - self._groups[0].received
        except IndexError:
            return 0.0

    @property
    def queue_rows(self) -> int:
        """Records not stored yet."""
        return self._rows

    def start(self) -> None:
        """Start the thread; needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def submit(self, group: Group) -> None:
        """Take a group over; waits while ``max_queue_rows`` records are queued."""
        while self._rows >= self._max_queue_rows:
            self._room.clear()
            await self._room.wait()
        with self._ready:
            self._groups.append(group)
            self._rows += group.rows
            self._ready.notify()

    def group_interval_ms(self, agents: int) -> int:
        """Longer with many agents: each group costs an insert."""
        return max(1000, 1000 * agents // _INSERTS_PER_SECOND)

    async def stop(self, patience: float) -> int:
        """Store what is queued for up to ``patience`` seconds; the rows that were left.

        Those were not acknowledged: their agents send them again.
        """
        with self._ready:
            self._draining = True
            self._ready.notify()
        await asyncio.to_thread(self._thread.join, patience)
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, 0.1)
        return self._rows

    def _run(self) -> None:
        try:
            while (group := self._next()) is not None:
                if not self._store_group(group):
                    return
                with self._ready:
                    self._groups.popleft()
                    self._rows -= group.rows
                self._call(self._settle, group)
        except BaseException as error:
            log.exception("the committer died")
            self._call(self._on_death, error)

    def _next(self) -> Group | None:
        with self._ready:
            while not self._groups and not self._draining:
                self._ready.wait()
            return None if self._stopping.is_set() or not self._groups else self._groups[0]

    def _store_group(self, group: Group) -> bool:
        """Insert until it works; False when told to stop meanwhile."""
        batches, expired = self._fresh(group.batches)
        delay = self._retry_first
        while True:
            try:
                with self._metrics.insert_seconds.time():
                    self._store.insert(batches, group.token)
                break
            except Exception as error:
                self._metrics.insert_errors.inc()
                if self.error is None:
                    log.error("records cannot be stored, agents wait: %s", error)
                self.error = str(error)
            if self._stopping.wait(delay):
                return False
            delay = min(2 * delay, _RETRY_MOST)
        if self.error is not None:
            log.warning("records are stored again")
            self.error = None
        self._metrics.groups_stored.inc()
        self._metrics.records_stored.inc(group.rows - expired)
        self._metrics.records_dropped.labels("expired").inc(expired)
        return True

    def _fresh(self, batches: list[FlowBatch]) -> tuple[list[FlowBatch], int]:
        """Without the records that the store's TTL would remove at once, which nobody would see."""
        oldest = time.time_ns() - self._store.retention_s * 1_000_000_000
        fresh, expired = [], 0
        for batch in batches:
            keep = batch.columns["time"] >= oldest
            old = len(batch) - int(keep.sum())
            expired += old
            fresh.append(batch.select(keep) if old else batch)
        return fresh, expired

    def _settle(self, group: Group) -> None:
        self._room.set()
        group.stored()

    def _call(self, function: Callable[..., None], argument: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending anyway
            self._loop.call_soon_threadsafe(function, argument)
