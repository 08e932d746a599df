"""Disk behind the spool: what memory has no room for, in nameless files that go with the agent."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

SEGMENT_BYTES = 16 * 1024 * 1024


class _Segment:
    """One file; its space is given back when nothing in it is needed any more."""

    def __init__(self, folder: Path) -> None:
        with tempfile.TemporaryFile(dir=folder) as file:
            self.fd = os.dup(file.fileno())
        self.size = 0
        self.live = 0


class Place(NamedTuple):
    """Where on disk some bytes are."""

    segment: _Segment
    offset: int
    length: int


class Spill:
    """Up to ``max_bytes`` on the disk of ``folder``. Not for more than one thread at a time, but
    for :meth:`read`.

    The files have no name: a killed agent leaves none, and a new one does not find them again.
    Raises OSError where ``folder`` cannot be made or written to.
    """

    def __init__(self, folder: Path, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.max_bytes = max_bytes
        self.bytes = 0
        """Disk in use: whole segments, also where only a part of one is still needed."""
        self._segment_bytes = segment_bytes
        self._segments: set[_Segment] = set()
        self._last = self._open()

    def _open(self) -> _Segment:
        made = _Segment(self.folder)
        self._segments.add(made)
        return made

    def has_room(self, length: int) -> bool:
        """Whether ``length`` more bytes are within ``max_bytes``."""
        return self.bytes + length <= self.max_bytes

    def write(self, data: bytes) -> Place:
        """Keep ``data``. Raises OSError, such as ENOSPC, and then keeps nothing of it."""
        segment = self._last
        if segment.size >= self._segment_bytes:
            segment = self._last = self._open()
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(segment.fd, data[done:], segment.size + done)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(segment.fd, segment.size)
            raise
        place = Place(segment, segment.size, len(data))
        segment.size += len(data)
        segment.live += len(data)
        self.bytes += len(data)
        return place

    def read(self, place: Place) -> bytes:
        """What was written there. Raises OSError where the disk does not give it back whole."""
        data = os.pread(place.segment.fd, place.length, place.offset)
        if len(data) != place.length:
            raise OSError(f"{len(data)} of {place.length} bytes came back from {self.folder}")
        return data

    def free(self, place: Place) -> None:
        """Give up what is at ``place``."""
        segment = place.segment
        segment.live -= place.length
        if segment.live:
            return
        self.bytes -= segment.size
        if segment is self._last:
            segment.size = 0
            os.ftruncate(segment.fd, 0)
        else:
            os.close(segment.fd)
            self._segments.remove(segment)

    def close(self) -> None:
        """Give up everything."""
        for segment in self._segments:
            os.close(segment.fd)
        self._segments.clear()
