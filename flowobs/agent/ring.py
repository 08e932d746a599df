"""Perf ring reader: whole batches of fixed-size records as numpy arrays, never one at a time.

Kernel side of the contract: ``bpf_perf_event_output`` of one struct into a PERF_EVENT_ARRAY.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowobs.agent import bpf, perf

SAMPLE, LOST = 9, 2
_HEADER = struct.Struct("<IHH")
_LOST = struct.Struct("<QQ")
_ALIGN = 8

RING_BYTES, RINGS_BYTES = 1 << 20, 16 << 20
"""Of one CPU, about 7,700 events of 116 bytes; and of all: of more than 16 CPUs, each has less."""
_LEAST_BYTES = 256 << 10


class Layout:
    """A perf record that carries one ``record``: header 8, payload size 4, payload, padding."""

    __slots__ = ("dtype", "raw_size", "record", "size")

    def __init__(self, record: np.dtype[Any]) -> None:
        self.record = record
        self.size = (_HEADER.size + 4 + record.itemsize + _ALIGN - 1) & -_ALIGN
        self.raw_size = self.size - _HEADER.size - 4
        self.dtype = np.dtype(
            {
                "names": ["type", "size", "raw_size", "record"],
                "formats": ["<u4", "<u2", "<u4", record],
                "offsets": [0, 6, 8, 12],
                "itemsize": self.size,
            }
        )


class Parsed(NamedTuple):
    """What ring bytes held."""

    records: NDArray[Any]
    """Shape (n,), in ring order."""
    lost: int
    """Sum of LOST records. A hint: the kernel cannot write one while the ring is full."""
    odd: int
    """Stretches of bytes that are neither a record of the expected size nor LOST."""


def parse(data: NDArray[np.uint8], layout: Layout) -> Parsed:
    """Split ring bytes, shape (n,), into records. Takes any bytes: what is broken is counted."""
    words = data.data
    runs: list[NDArray[Any]] = []
    lost = odd = at = 0
    end = len(data)
    while end - at >= _HEADER.size:
        type, _, size = _HEADER.unpack_from(words, at)
        if type == SAMPLE and size == layout.size and size <= end - at:
            whole = (end - at) // layout.size
            run = data[at : at + whole * layout.size].view(layout.dtype)
            good = (
                (run["type"] == SAMPLE)
                & (run["size"] == layout.size)
                & (run["raw_size"] == layout.raw_size)
            )
            length = whole if good.all() else int(good.argmin())
            if length:
                runs.append(run["record"][:length])
                at += length * layout.size
                continue
        if size < _HEADER.size or size % _ALIGN or size > end - at:
            break  # no way to tell where the next record begins
        if type == LOST and size >= _HEADER.size + _LOST.size:
            lost += _LOST.unpack_from(words, at + _HEADER.size)[1]
        else:
            odd += 1
        at += size
    odd += at < end
    if len(runs) == 1:
        return Parsed(runs[0], lost, odd)
    return Parsed(np.concatenate(runs) if runs else np.empty(0, layout.record), lost, odd)


def pending(data: NDArray[np.uint8], tail: int, head: int) -> NDArray[np.uint8]:
    """A copy of the bytes from ``tail`` to ``head`` of a circular buffer; both only ever grow.

    Raises ValueError where they cannot be positions of this buffer.
    """
    size = len(data)
    if not 0 <= head - tail <= size:
        raise ValueError(f"ring of {size} bytes cannot hold {head - tail}")
    start = tail % size
    stop = start + head - tail
    if stop <= size:
        return data[start:stop].copy()
    return np.concatenate((data[start:], data[: stop - size]))


def _share(cpus: int) -> int:
    """Bytes of each ring, a power of two."""
    return max(_LEAST_BYTES, min(RING_BYTES, 1 << (RINGS_BYTES // cpus).bit_length() - 1))


class RingReader:
    """One ring for each CPU that is online, wired into a PERF_EVENT_ARRAY.

    The kernel opens no ring on a CPU that is not: ``follow`` gives one to those that came since.
    Until then programs count what they cannot send.

    ``filenos`` become readable when a ring is one eighth full; records below that wake nobody, so
    whoever waits must also read on a timer.
    """

    def __init__(
        self,
        map_fd: int,
        record: np.dtype[Any],
        *,
        ring_bytes: int = 0,
        cpus: Sequence[int] | None = None,
    ) -> None:
        self.fill = 0.0
        """How full the fullest ring was at the last reading, 1: all of it."""
        self._odd = 0
        self._layout = Layout(record)
        self._map_fd = map_fd
        self._ring_bytes = ring_bytes or _share(bpf.possible_cpus())
        self._rings: dict[int, perf.Ring] = {}
        self._left: list[NDArray[Any]] = []
        try:
            for cpu in perf.online_cpus() if cpus is None else cpus:
                self._open(cpu)
        except BaseException:
            self.close()
            raise

    @property
    def filenos(self) -> list[int]:
        return [ring.fd for ring in self._rings.values()]

    def follow(self, cpus: Collection[int] | None = None, *, losing: bool = False) -> list[int]:
        """Open rings for CPUs that came online (None: ask the kernel) and close those of CPUs that
        went; the new filenos.

        ``losing``: programs could not write to a ring lately. That may be because its CPU went and
        came back in between, as all but one do while a machine sleeps: two calls in a row find it.
        """
        online = set(perf.online_cpus() if cpus is None else cpus)
        still = {cpu for cpu in self._rings if losing and self._rings[cpu].stands_still()}
        for cpu in self._rings.keys() - (online - still):
            self._left += self._read(self._rings[cpu])
            bpf.delete(self._map_fd, np.uint32(cpu))
            self._rings.pop(cpu).close()
        new = []
        for cpu in sorted(online - self._rings.keys()):
            with contextlib.suppress(OSError):  # it went again
                new.append(self._open(cpu))
        return new

    def _open(self, cpu: int) -> int:
        ring = self._rings[cpu] = perf.Ring(cpu, self._ring_bytes)
        fd: int = ring.fd
        bpf.update(self._map_fd, np.uint32(cpu), np.uint32(fd))
        ring.enable()
        return fd

    def read(self) -> list[NDArray[Any]]:
        """All pending records, as arrays of at least one; nothing pending gives an empty list."""
        self.fill = 0.0
        found, self._left = self._left, []
        for ring in self._rings.values():
            found += self._read(ring)
        return found

    def _read(self, ring: perf.Ring) -> list[NDArray[Any]]:
        tail, head = ring.positions()
        if tail == head:
            return []
        try:
            data = pending(ring.data, tail, head)
        except ValueError:
            self._odd += 1
            data = ring.data[:0]
        ring.consume(head)
        self.fill = max(self.fill, len(data) / self._ring_bytes)
        # LOST is not looked at: the programs' own counters are exact.
        records, _, odd = parse(data, self._layout)
        self._odd += odd
        return [records] if len(records) else []

    def take_odd(self) -> int:
        """Stretches of bytes since the last call that were no record."""
        odd, self._odd = self._odd, 0
        return odd

    def close(self) -> None:
        for ring in self._rings.values():
            ring.close()
        self._rings.clear()
