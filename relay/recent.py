"""The newest records in memory, as columns: the seam between history and live."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from flowobs.batch import FlowBatch


class Snapshot(NamedTuple):
    """Records of the buffer, oldest arrival first. They stay valid however the buffer moves on."""

    batches: list[FlowBatch]
    end: int
    """Number of the next record to arrive: hand it to the next ``since``."""
    missed: int
    """Records asked for that the buffer no longer had."""


class Recent:
    """At least the newest ``limit`` rows, fewer than that only while fewer have arrived.

    Records are numbered in order of arrival. Whole batches are forgotten, so it may hold up to one
    batch more than the limit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # neighbours are joined: a quiet relay must not keep thousands of tiny batches
        self._merge_rows = limit // 16
        self.start = 0
        self.end = 0
        self._batches: deque[FlowBatch] = deque()

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def oldest_ns(self) -> int | None:
        """Time of the first record of the oldest batch, or None when empty."""
        return int(self._batches[0]["time"][0]) if self._batches else None

    def add(self, batch: FlowBatch) -> None:
        """Append records that have just arrived (at least one)."""
        self.end += len(batch)
        self._batches.append(batch)
        while len(self._batches) > 1 and self._mergeable(*self._tail()):
            older, newer = self._tail()
            self._batches.pop()
            self._batches[-1] = FlowBatch.concat((older, newer))
        while len(self) - len(self._batches[0]) >= self.limit:
            self.start += len(self._batches.popleft())

    def since(self, number: int) -> Snapshot:
        """Every record numbered ``number`` or later that is still here."""
        batches: list[FlowBatch] = []
        at = self.end
        for batch in reversed(self._batches):
            if at <= number:
                break
            at -= len(batch)
            batches.append(batch if at >= number else batch.select(slice(number - at, None)))
        return Snapshot(batches[::-1], self.end, max(0, self.start - number))

    def _tail(self) -> tuple[FlowBatch, FlowBatch]:
        return self._batches[-2], self._batches[-1]

    def _mergeable(self, older: FlowBatch, newer: FlowBatch) -> bool:
        # only when the older one is not much larger: a row is copied a logarithmic number of times
        return (
            older.endpoints is newer.endpoints
            and len(older) <= 2 * len(newer)
            and len(older) + len(newer) <= self._merge_rows
        )
