"""One live subscriber: a bounded queue of records on their way to one reader."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from flowobs.batch import Endpoints, FlowBatch, Strings
from flowobs.schema import Kind
from relay.lines import Lines

SLOW: Final = "subscriber_slow"
"""``drop_reason`` of the record that tells a subscriber what it lost."""


class Closed(Exception):
    """The hub has stopped; nothing more will come."""


class Chunk:
    """Records of one tick for one filter. Rendered once, however many subscribers send it.

    ``position`` is where the stream is behind them; "" where that is not known.
    """

    __slots__ = ("_ndjson", "_sse", "lines", "position")

    def __init__(self, lines: Sequence[bytes], position: str = "") -> None:
        self.lines = lines
        self.position = position
        self._ndjson: bytes | None = None
        self._sse: bytes | None = None

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def ndjson(self) -> bytes:
        """A record a line."""
        if self._ndjson is None:
            self._ndjson = b"\n".join(self.lines) + b"\n"
        return self._ndjson

    @property
    def sse(self) -> bytes:
        """A server-sent event with a JSON array."""
        if self._sse is None:
            id = f"id: {self.position}\n".encode() if self.position else b""
            self._sse = b"event: flows\n" + id + b"data: [" + b",".join(self.lines) + b"]\n\n"
        return self._sse


class Subscription:
    """The reading end. Filled by the hub; a reader that is too slow loses records, and is told.

    ``lost`` counts every record this subscriber lost. A gap shows up in the stream, at its place,
    as a record of kind ``lost``.
    """

    def __init__(self, limit: int, on_lost: Callable[[int], None]) -> None:
        self.limit = limit
        self.lost = 0
        self._on_lost = on_lost
        self._queue: deque[Chunk] = deque()
        self._rows = 0
        self._untold = 0
        self._closed = False
        self._wake = asyncio.Event()

    @property
    def queued(self) -> int:
        """Rows waiting to be read."""
        return self._rows

    def offer(self, chunk: Chunk) -> None:
        """Queue a chunk, or count it as lost when there is no room. Never waits."""
        if self._rows + len(chunk) > self.limit:
            self.lose(len(chunk))
            return
        if self._untold:
            self._queue.append(self._tell())
            self._rows += 1
        self._queue.append(chunk)
        self._rows += len(chunk)
        self._wake.set()

    def lose(self, rows: int) -> None:
        """Count records that this subscriber should have got."""
        if rows:
            self.lost += rows
            self._untold += rows
            self._on_lost(rows)
            self._wake.set()

    async def next(self, timeout_s: float) -> Chunk | None:
        """The next records, or None when none came in time. Raises Closed at the end."""
        if not self._queue and not self._untold and not self._closed:
            self._wake.clear()
            with suppress(TimeoutError):  # records may come in that very moment
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            if not self._wake.is_set():
                return None
        if self._queue:
            chunk = self._queue.popleft()
            self._rows -= len(chunk)
            return chunk
        if self._untold:
            return self._tell()
        raise Closed

    def close(self) -> None:
        """Let the reader take what is queued, then end."""
        self._closed = True
        self._wake.set()

    def _tell(self) -> Chunk:
        rows, self._untold = self._untold, 0
        return Chunk([lost_line(rows, SLOW)])


def lost_line(rows: int, reason: str) -> bytes:
    """A record of kind ``lost`` made by the relay, timed now."""
    endpoints = Endpoints(Strings())
    batch = FlowBatch.zeros(1, endpoints)
    batch.columns["time"][0] = time.time_ns()
    batch.columns["kind"][0] = Kind.lost
    batch.columns["lost"][0] = rows
    batch.columns["drop_reason"][0] = endpoints.strings.id(reason)
    return Lines()(batch)[0]
