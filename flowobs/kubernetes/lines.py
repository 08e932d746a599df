"""Lines of a stream of bytes, up to a length."""

from __future__ import annotations

from collections.abc import Iterator

MAX_LINE = 4 << 20
"""etcd takes objects up to 1.5 MiB; in JSON they are larger."""


class LineTooLong(Exception):
    """A line that no object of ours can be."""


class Lines:
    """Cuts chunks, as they come, into lines."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._length = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that are complete with ``chunk``, without empty ones.

        Raises LineTooLong.
        """
        *complete, rest = chunk.split(b"\n")
        for line in complete:
            if self._parts:
                self._check(len(line))
                line = b"".join((*self._parts, line))
                self._parts, self._length = [], 0
            elif len(line) > self._limit:
                self._check(len(line))
            if line:
                yield line
        if rest:
            self._check(len(rest))
            self._parts.append(rest)
            self._length += len(rest)

    def _check(self, more: int) -> None:
        if self._length + more > self._limit:
            raise LineTooLong(f"a line is longer than {self._limit >> 20} MiB")
