"""What committers take and promise, and the thread and queue they share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flowobs.batch import FlowBatch
from relay.metrics import RelayMetrics

log = logging.getLogger(__name__)

MAX_QUEUE_ROWS = 80_000
"""Records that may wait for the store (about 25 MB); agents wait beyond that."""

_RETRY_FIRST, _RETRY_MOST = 0.1, 5.0


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

    def stored(self, agent: str, epoch: int) -> int:
        """The last group of an agent's epoch that an earlier run is known to have stored; or 0."""
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

    def insert_file(self, path: Path, token: str) -> None: ...


class QueueCommitter(ABC):
    """A bounded queue and the thread that empties it.

    Failing work is tried again until it works, its reason shown as ``error``, while ``submit``
    makes agents wait. The thread never ends silently: ``on_death`` is called on the event loop and
    must end the process.
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
        self._wake_rows = 0
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
            if len(self._groups) == 1 or self._rows >= self._wake_rows:
                self._ready.notify()

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

    @abstractmethod
    def stored(self, agent: str, epoch: int) -> int:
        """See :class:`Committer`."""

    @abstractmethod
    def group_interval_ms(self, agents: int) -> int:
        """See :class:`Committer`."""

    @abstractmethod
    def _next(self) -> list[Group]:
        """Wait for work: the first groups of the queue; none at the end."""

    @abstractmethod
    def _commit(self, groups: list[Group]) -> bool:
        """Store ``groups``; False when told to stop meanwhile."""

    def _prepare(self) -> bool:
        """Before the first group; False when told to stop meanwhile."""
        return True

    def _run(self) -> None:
        try:
            if not self._prepare():
                return
            while groups := self._next():
                if not self._commit(groups):
                    return
                with self._ready:
                    for group in groups:
                        self._groups.popleft()
                        self._rows -= group.rows
                self._call(self._settle, groups)
        except BaseException as error:
            log.exception("the committer died")
            self._call(self._on_death, error)

    def _wait_for_group(self) -> bool:
        """Under ``_ready``: until there is a group; False at the end."""
        while not self._groups and not self._draining:
            self._ready.wait()
        return bool(self._groups) and not self._stopping.is_set()

    def _persist(self, step: Callable[[], None]) -> bool:
        """Do ``step`` until it works; False when told to stop meanwhile."""
        delay = self._retry_first
        while True:
            try:
                step()
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
        return True

    def _fresh(self, groups: Sequence[Group]) -> tuple[list[FlowBatch], int]:
        """Their records without those older than the retention, which nobody would see."""
        oldest = time.time_ns() - self._store.retention_s * 1_000_000_000
        fresh, expired = [], 0
        for batch in (batch for group in groups for batch in group.batches):
            keep = batch.columns["time"] >= oldest
            old = len(batch) - int(keep.sum())
            expired += old
            fresh.append(batch.select(keep) if old else batch)
        return fresh, expired

    def _count(self, groups: Sequence[Group], expired: int) -> None:
        self._metrics.groups_stored.inc(len(groups))
        self._metrics.records_stored.inc(sum(group.rows for group in groups) - expired)
        self._metrics.records_dropped.labels("expired").inc(expired)

    def _settle(self, groups: list[Group]) -> None:
        self._room.set()
        for group in groups:
            group.stored()

    def _call(self, function: Callable[..., None], argument: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending anyway
            self._loop.call_soon_threadsafe(function, argument)
