"""Lines of answers that are in memory until their readers have taken them: bounded in all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

from relay.http.errors import ApiError
from relay.http.flows_query import LAST_SINCE
from relay.http.history import HELD_ROWS

MOST_BYTES: Final = 160 * 1024 * 1024
"""A hundred thousand records are some 80 MB."""
_PIECE_ROWS: Final = 1_000


class Room:
    """What all answers hold."""

    def __init__(self) -> None:
        self.bytes = 0
        self._turn = asyncio.Lock()

    def turn(self, rows: int) -> AbstractAsyncContextManager[None]:
        """To read ``rows`` in: one answer of several pages at a time."""
        return self._turn if rows > HELD_ROWS else nullcontext()


class Held:
    """What one answer holds."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._rows = 0
        self._bytes = 0

    def add(self, lines: list[bytes]) -> None:
        """Raises ApiError (503) where all hold too much, and this answer has many."""
        self._rows += len(lines)
        self._take(sum(map(len, lines)))
        if self._rows > LAST_SINCE and self._room.bytes > MOST_BYTES:
            raise ApiError(
                503,
                f"answers that are held in memory have more than {MOST_BYTES >> 20} MB in all: try"
                " again later, ask for fewer records, or take ndjson in the order of the search",
            )

    def pieces(self, lines: list[bytes]) -> Iterator[list[bytes]]:
        """``lines`` in order, some at a time; what was taken is no longer in ``lines``."""
        lines.reverse()
        while lines:
            piece = lines[: -_PIECE_ROWS - 1 : -1]
            del lines[-_PIECE_ROWS:]
            yield piece
            self._take(-sum(map(len, piece)))

    def end(self) -> None:
        """Nothing is held any more."""
        self._take(-self._bytes)

    def _take(self, size: int) -> None:
        self._bytes += size
        self._room.bytes += size
