"""Records the relay has not acknowledged: commit groups in memory, then on disk, bounded, kept to
the byte.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from flowobs import schema
from flowobs.agent.spill import Place, Spill
from flowobs.batch import Endpoints, FlowBatch
from flowobs.wire import ROW_BYTES, Mark, encode

log = logging.getLogger(__name__)

REASONS = ("spool_full", "refused", "shutdown", "spool_disk")
"""Why records are given up: no room, the relay calls them malformed, nobody is left to send, the
disk does not give them back."""
WHOLE_ROWS = 2048
"""A batch of so many rows is sent as it is. Smaller ones are joined, which copies each column."""
_LOST = np.uint8(schema.Kind.lost)
_DISK_PAUSE = 10.0
"""Seconds until a disk that refused is tried again."""


@dataclass(slots=True)
class Micro:
    """A serialized micro-batch, or where on disk it is, and what of the dictionary it needs."""

    data: bytes | Place
    mark: Mark
    sent: bool = False


@dataclass(slots=True)
class CommitGroup:
    """A run of micro-batches that the relay stores and acknowledges as one.

    The batch that fills it is not cut: it has less than twice as many rows as fill it.
    ``records`` are the rows that tell of traffic, ``lost`` what its rows of kind "lost" add up to.
    """

    number: int
    opened: float
    micros: list[Micro] = field(default_factory=list)
    rows: int = 0
    records: int = 0
    lost: int = 0
    bytes: int = 0
    closed: bool = False
    spilled: bool = False
    """On disk; ``bytes`` is still what it took in memory."""

    @property
    def sent(self) -> bool:
        return self.micros[0].sent


class Epoch:
    """All groups whose ids belong to one endpoint table. ``number`` is its name on the wire."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.endpoints: Endpoints | None = None
        self.groups: list[CommitGroup] = []
        self.next_group = 1
        self.pending: list[tuple[FlowBatch, Mark]] = []
        self.finished = False
        self.node_id = 0
        self.reason_ids: dict[str, int] = {}

    @property
    def drained(self) -> bool:
        """No more groups will come, and all there were are stored."""
        return self.finished and not self.groups and not self.pending


class Spool:
    """Between the thread that makes records and the event loop that sends them.

    :meth:`put` may be called from any one thread; everything else belongs to the sender's. Where
    there is no room below ``max_bytes``, what was put is cut at once: encoded it takes less, and
    may go to disk. If that is not enough, the oldest closed group of which nothing was sent is
    dropped, or, where there is none, the batch; a ``lost`` record of the next group says how many
    records that cost.

    With ``spill``, closed groups move to disk, the oldest first, from half of ``max_bytes`` on.
    There, too, the oldest makes room.
    """

    def __init__(
        self,
        *,
        node: str,
        max_bytes: int,
        group_interval: float,
        group_rows: int,
        spill: Spill | None = None,
        on_drop: Callable[[str, int], None] = lambda reason, records: None,
        clock: Callable[[], float] = time.monotonic,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.max_bytes = max_bytes
        self.group_interval = group_interval
        self.group_rows = group_rows
        self.bytes = 0
        self.rows = 0
        self.dropped: Counter[str] = Counter()
        self._spill = spill
        self._spill_again = 0.0
        self._node = node
        self._on_drop = on_drop
        self._clock = clock
        self._now_ns = now_ns
        self._lock = threading.Lock()
        # Held by who cuts or removes groups, outside of the lock: a group is not removed while
        # records are added to it.
        self._groups_change = threading.RLock()
        self._untold: Counter[str] = Counter()
        self._epochs = [Epoch(now_ns())]

    # -- the thread that makes records

    def put(self, batch: FlowBatch) -> None:
        """Take records over. Never waits for the relay. A new endpoint table begins a new epoch."""
        if len(batch) and not self._keep(batch):
            self.cut()
            while not self._keep(batch):
                with self._lock:
                    if not self._drop_unsent(spilled=False):
                        self._count_loss("spool_full", *_losses(batch))
                        return
        # A large batch at once: the cache has it, and the next one gets its memory. Unless the
        # sender is at it, which may be at the disk.
        if len(batch) >= WHOLE_ROWS and self._groups_change.acquire(blocking=False):
            try:
                self._cut_pending(close=False)
            finally:
                self._groups_change.release()

    def _keep(self, batch: FlowBatch) -> bool:
        size = len(batch) * ROW_BYTES
        with self._lock:
            epoch = self._epochs[-1]
            if batch.endpoints is not epoch.endpoints:
                epoch = self._begin(batch.endpoints)
            if self.bytes + size > self.max_bytes:
                return False
            epoch.pending.append((batch, Mark.of(batch.endpoints)))
            self.rows += len(batch)
            self.bytes += size
            return True

    def _begin(self, endpoints: Endpoints) -> Epoch:
        epoch = self._epochs[-1]
        if epoch.endpoints is not None:
            epoch.finished = True
            epoch = Epoch(max(self._now_ns(), epoch.number + 1))
            self._epochs.append(epoch)
        epoch.endpoints = endpoints
        # Interned here because only this thread may add to the table.
        epoch.node_id = endpoints.strings.id(self._node)
        epoch.reason_ids = {reason: endpoints.strings.id(reason) for reason in REASONS}
        return epoch

    def _drop_unsent(self, *, spilled: bool) -> bool:
        for epoch in self._epochs:
            for at, group in enumerate(epoch.groups):
                if group.closed and not group.sent and group.spilled == spilled:
                    del epoch.groups[at]
                    self._free(group)
                    self._count_loss("spool_full", group.records, group.lost)
                    return True
        return False

    def _free(self, group: CommitGroup) -> None:
        self._forget(group.rows, 0 if group.spilled else group.bytes)
        for micro in group.micros:
            if isinstance(micro.data, Place) and self._spill is not None:
                self._spill.free(micro.data)

    def _forget(self, rows: int, bytes: int) -> None:
        self.rows -= rows
        self.bytes -= bytes

    def _count_loss(self, reason: str, records: int, lost_before: int) -> None:
        self.dropped[reason] += records
        self._untold[reason] += records + lost_before
        self._on_drop(reason, records)

    # -- the sender's thread

    @property
    def head(self) -> Epoch:
        """The epoch to send now. A finished epoch stays until all of it is stored."""
        with self._lock:
            while self._epochs[0].drained:
                del self._epochs[0]
            return self._epochs[0]

    @property
    def disk_bytes(self) -> int:
        """Disk in use."""
        return self._spill.bytes if self._spill is not None else 0

    @property
    def empty(self) -> bool:
        """Everything put so far is stored (or counted as lost)."""
        return all(not e.groups and not e.pending for e in self._epochs)

    def close_in(self) -> float | None:
        """Seconds until an open group is due to be closed; None where there is none."""
        with self._lock:
            due = [
                e.groups[-1].opened + self.group_interval
                for e in self._epochs
                if e.groups and not e.groups[-1].closed
            ]
        return max(0.0, min(due) - self._clock()) if due else None

    def cut(self, *, close: bool = False) -> None:
        """Turn what was put into micro-batches; close groups that are old, full or finished."""
        with self._groups_change:
            self._cut_pending(close)
            if self._spill is not None:
                self._move_to(self._spill)

    def _cut_pending(self, close: bool) -> None:
        with self._lock:
            taken = [(e, e.pending.copy(), e.finished) for e in self._epochs]
        for epoch, pending, finished in taken:
            self._cut_epoch(epoch, pending, close or finished)
            with self._lock:  # not before: an epoch with nothing left is over
                del epoch.pending[: len(pending)]

    def _move_to(self, spill: Spill) -> None:
        while 2 * self.bytes > self.max_bytes and self._clock() >= self._spill_again:
            with self._lock:
                group = next(
                    (g for e in self._epochs for g in e.groups if g.closed and not g.spilled), None
                )
                if group is None:
                    return
                # What is sent now may be read from memory meanwhile: the bytes are the same.
                while not spill.has_room(group.bytes):
                    if not self._drop_unsent(spilled=True):
                        return
                try:
                    for micro in group.micros:
                        if isinstance(micro.data, bytes):
                            micro.data = spill.write(micro.data)
                except OSError as error:
                    self._spill_again = self._clock() + _DISK_PAUSE
                    log.warning(
                        "%s takes no more records (%s): they stay in memory, up to %d MiB",
                        spill.folder,
                        error.strerror,
                        self.max_bytes >> 20,
                    )
                    return
                group.spilled = True
                self._forget(0, group.bytes)

    def _cut_epoch(self, epoch: Epoch, pending: list[tuple[FlowBatch, Mark]], close: bool) -> None:
        group = epoch.groups[-1] if epoch.groups else None
        if group is not None and group.closed:
            group = None
        close = close or (group is not None and group.opened + self.group_interval <= self._clock())
        for number, (batch, mark) in enumerate(runs := _runs(pending), 1):
            with self._lock:
                self._forget(len(batch), len(batch) * ROW_BYTES)
            for at in range(0, len(batch), self.group_rows):
                part = batch
                if len(batch) > self.group_rows:
                    part = batch.select(slice(at, at + self.group_rows))
                last = number == len(runs) and at + len(part) == len(batch)
                group = self._append(epoch, group, part, mark, close=close and last)
        if not pending and close and group is not None:
            assert epoch.endpoints is not None
            nothing = FlowBatch.zeros(0, epoch.endpoints)
            self._append(epoch, group, nothing, group.micros[-1].mark, close=True)

    def _append(
        self, epoch: Epoch, group: CommitGroup | None, batch: FlowBatch, mark: Mark, *, close: bool
    ) -> CommitGroup | None:
        """Add a micro-batch to ``group`` (None: to a new one); the group if it is still open."""
        new = group is None
        if group is None:
            group = CommitGroup(epoch.next_group, self._clock())
            epoch.next_group += 1
            batch = self._with_loss(epoch, batch)
        close = close or group.rows + len(batch) >= self.group_rows
        micro = Micro(encode(batch, group.number, close=close), mark)
        records, lost = _losses(batch)
        with self._lock:
            group.micros.append(micro)
            group.rows += len(batch)
            group.records += records
            group.lost += lost
            group.bytes += len(micro.data)
            group.closed = close
            self.rows += len(batch)
            self.bytes += len(micro.data)
            if new:
                epoch.groups.append(group)
        return None if close else group

    def _with_loss(self, epoch: Epoch, batch: FlowBatch) -> FlowBatch:
        with self._lock:
            untold, self._untold = self._untold, Counter()
        if not untold:
            return batch
        told = FlowBatch.zeros(len(untold), batch.endpoints)
        told.columns["time"][:] = self._now_ns()
        told.columns["kind"][:] = schema.Kind.lost
        told.columns["lost"][:] = list(untold.values())
        told.columns["node"][:] = epoch.node_id
        told.columns["drop_reason"][:] = [epoch.reason_ids[r] for r in untold]
        return FlowBatch.concat([told, batch])

    def take(self, epoch: Epoch, group: int, index: int) -> tuple[CommitGroup, Micro, bool] | None:
        """The next micro-batch to send after number ``index`` - 1 of ``group``, now marked as sent.

        None where all there is was taken. The flag says that it was sent before.
        """
        with self._lock:
            at = bisect_right(epoch.groups, group - 1, key=lambda g: g.number)
            if at < len(epoch.groups) and epoch.groups[at].number == group:
                current = epoch.groups[at]
                if index == len(current.micros):
                    if not current.closed:
                        return None
                    at, index = at + 1, 0
            else:
                index = 0
            if at == len(epoch.groups):
                return None
            micro = epoch.groups[at].micros[index]
            resent, micro.sent = micro.sent, True
            return epoch.groups[at], micro, resent

    def read(self, micro: Micro) -> bytes:
        """The bytes of a micro-batch. Raises OSError where the disk does not give them back."""
        data = micro.data
        if isinstance(data, bytes):
            return data
        assert self._spill is not None
        return self._spill.read(data)

    def ack(self, epoch: Epoch, number: int) -> int:
        """Free the groups of ``epoch`` up to ``number``; the rows they held."""
        with self._groups_change, self._lock:
            at = bisect_right(epoch.groups, number, key=lambda g: g.number)
            done = epoch.groups[:at]
            del epoch.groups[:at]
            for group in done:
                self._free(group)
        return sum(group.rows for group in done)

    def drop_first(self, epoch: Epoch, reason: str) -> int:
        """Give the first group of ``epoch`` up, counted under ``reason``; the rows it held."""
        return self.drop(epoch, epoch.groups[0], reason) if epoch.groups else 0

    def drop(self, epoch: Epoch, group: CommitGroup, reason: str) -> int:
        """Give ``group`` of ``epoch`` up, counted under ``reason``; the rows it held."""
        with self._groups_change, self._lock:
            epoch.groups.remove(group)
            group.closed = True
            self._free(group)
            self._count_loss(reason, group.records, group.lost)
            return group.records

    def drop_all(self, reason: str) -> int:
        """Give everything up, counted under ``reason``; the records it was."""
        self.cut(close=True)
        return sum(self.drop_first(e, reason) for e in self._epochs for _ in list(e.groups))


def _runs(pending: list[tuple[FlowBatch, Mark]]) -> list[tuple[FlowBatch, Mark]]:
    """The same rows in fewer batches: small ones are joined, without changing the order."""
    runs: list[tuple[FlowBatch, Mark]] = []
    small: list[FlowBatch] = []
    for at, (batch, mark) in enumerate(pending, 1):
        small.append(batch)
        if at == len(pending) or max(len(batch), len(pending[at][0])) >= WHOLE_ROWS:
            runs.append((FlowBatch.concat(small), mark))
            small = []
    return runs


def _losses(batch: FlowBatch) -> tuple[int, int]:
    """What the loss of ``batch`` would cost: its records, and the losses it tells of."""
    told = (batch.columns["kind"] == _LOST).nonzero()[0]
    return len(batch) - len(told), int(batch.columns["lost"][told].sum()) if told.size else 0
