"""Empty the flow maps without losing or doubling a packet, and read the programs' own counters."""

from __future__ import annotations

import ctypes
import platform
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowobs.agent import bpf
from flowobs.agent.records import (
    CONTROL,
    COUNT,
    CPU_STATS,
    EVENT,
    FLOW,
    FLOW_KEY,
    HELD_KEY,
    RETRANSMITS,
    STATS,
    STATS_SIZE,
)
from flowobs.agent.tallies import Tallies

BATCH_ROWS = 8192
"""Flows in one batch at most: what follows (decode, wire message) is bounded by it."""

_MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
_MEMBARRIER_GLOBAL = 1
_GRACE_SLEEP_SECONDS = 0.02
_PROTOCOLS = 256

_libc = ctypes.CDLL(None, use_errno=True)


def wait_grace_period() -> bool:
    """Wait, for 8-16 ms, until every program that runs now has ended. False: it was only slept.

    ``membarrier`` waits for RCU, which is what programs run under. Kernels with nohz_full refuse
    it; a program runs for microseconds, so that a short sleep is enough in practice.
    """
    number = _MEMBARRIER.get(platform.machine())
    if number is not None and _libc.syscall(number, _MEMBARRIER_GLOBAL, 0, 0) == 0:
        return True
    time.sleep(_GRACE_SLEEP_SECONDS)
    return False


class _Pair:
    """Two maps that take turns, drained whole: as large as they may get, they are small."""

    def __init__(
        self, maps: Mapping[str, int], name: str, key: np.dtype[Any], value: np.dtype[Any]
    ) -> None:
        fds = (maps[f"{name}_0"], maps[f"{name}_1"]) if f"{name}_0" in maps else None
        room = bpf.map_info(fds[0]).max_entries if fds else 0
        self._fds = fds
        self._keys, self._values = np.empty(room, key), np.empty(room, value)

    @property
    def none(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self._keys[:0], self._values[:0]

    def is_empty(self, which: int) -> bool:
        return self._fds is None or bpf.is_empty(self._fds[which])

    def drain(self, which: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """(keys, values) of one of the maps, quiet by now; views that the next drain overwrites."""
        if self._fds is None:
            return self.none
        count = bpf.drain(self._fds[which], self._keys, self._values)
        return self._keys[:count], self._values[:count]


class FlowDrain:
    """The two flow maps: programs write to one while the other is emptied.

    ``maps``: fds by name, of which retransmits_0, held_0 and their others may be missing.
    """

    def __init__(self, maps: Mapping[str, int]) -> None:
        self._maps = maps["flows_0"], maps["flows_1"]
        self.capacity = bpf.map_info(self._maps[0]).max_entries
        """Flows that one map can hold."""
        self.fill = 0
        """Flows the last drained map held."""
        self.unsure_waits = 0
        """Grace periods that could only be slept through."""
        self._control = maps["control"]
        self._tallies = Tallies(maps["tallies"])
        self._again = _Pair(maps, "retransmits", FLOW_KEY.dtype, RETRANSMITS.dtype)
        self._held = _Pair(maps, "held", HELD_KEY.dtype, EVENT.dtype)
        self.retransmits = self._again.none
        """(keys, counts) of the last drain, known from its first row on."""
        self.held = self._held.none[1]
        """Events that did not go into the ring, dtype EVENT; the next drain overwrites them."""
        self._active = self._active_retransmits = 0
        self._places = self._tallies.places
        self._told = np.zeros((), CONTROL.dtype)  # what the programs are told
        self._told["seed"] = secrets.randbits(32)
        self._told["secrets"] = [secrets.randbits(63) << 1 for _ in range(6)]
        self._keys = np.empty(BATCH_ROWS, FLOW_KEY.dtype)
        self._flows = np.empty(BATCH_ROWS, FLOW.dtype)
        self._tell()

    def drain(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Switch maps and empty the quiet one: (keys, flows) of at most BATCH_ROWS rows at a time.

        The arrays are views that the next step overwrites. Consume all of it: what is left behind
        stays in the map until the drain after the next one.
        """
        quiet = self._maps[self._active]
        self._active = 1 - self._active
        self._places = self._tallies.enough_for(self.fill, self._places)
        self._switched()
        self.fill = 0
        self.retransmits = self._drain_retransmits()
        _, self.held = self._held.drain(1 - self._active)
        for count in bpf.drain_pieces(quiet, self._keys, self._flows):
            self.fill += count
            self._tallies.add_to(self._flows[:count])
            yield self._keys[:count], self._flows[:count]

    def _drain_retransmits(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The counts of all segments whose packets are in the quiet flow map, and of later ones.

        The kernel counts a segment after its packet, microseconds later, and these have passed by
        now. Had both maps turned at once, the count could come after its flow's last record.
        """
        quiet = self._active_retransmits
        if self._again.is_empty(quiet):
            return self._again.none
        self._active_retransmits = 1 - quiet
        self._switched()
        keys, counts = self._again.drain(quiet)
        flows = keys["proto"] != 0  # one entry is the programs' own: probes/tcp.bpf.c
        return keys[flows], counts[flows]

    def _switched(self) -> None:
        """Have programs write to the active maps, and wait until none writes to the others."""
        self._tell()
        self.unsure_waits += not wait_grace_period()

    def _tell(self) -> None:
        self._told["first_place"] = self._active * self._tallies.places
        self._told["places"] = self._places
        self._told["retransmits"] = self._active_retransmits
        bpf.update(self._control, np.uint32(0), self._told)


class Overflow(NamedTuple):
    """What found no room in the flow map, by protocol and hook side. Columns of equal length."""

    proto: NDArray[np.uint8]
    egress: NDArray[np.uint8]
    packets: NDArray[np.uint64]
    bytes: NDArray[np.uint64]


class CounterDeltas(NamedTuple):
    """What the programs counted since the last reading."""

    stats: Mapping[str, tuple[int, int]]
    """(packets, bytes) by name of ``records.STATS``, without the "STAT_" and in lower case; and
    ``missed_run``."""
    overflow: Overflow


class Counters:
    """The ``stats`` and ``overflow`` maps, read as differences.

    ``programs``: fds of those on tracepoints. The kernel leaves out their runs in an interrupt that
    came in the middle of one; it counts them, and here they are ``missed_run`` of the stats.
    """

    def __init__(self, stats_fd: int, overflow_fd: int, programs: Sequence[int] = ()) -> None:
        self._stats_fd = stats_fd
        self._overflow_fd = overflow_fd
        self._programs = programs
        self._missed = self._read_missed()
        self._names = {i: n.removeprefix("STAT_").lower() for n, (i, _) in STATS.items()}
        self._stats = self._read_stats()
        self._overflow = self._read_overflow()

    def read(self) -> CounterDeltas:
        """Differences to the last reading; the first one starts at construction."""
        stats = self._read_stats()
        change = stats - self._stats
        self._stats = stats
        deltas = {n: (int(change[i, 0]), int(change[i, 1])) for i, n in self._names.items()}
        missed = self._read_missed()
        deltas["missed_run"] = missed - self._missed, 0
        self._missed = missed
        overflow = np.zeros_like(self._overflow)
        # 512 lookups, so only when there is something to see. Totals are compared, not this
        # reading's change: a program may have counted in one map and not yet in the other.
        if stats[STATS["STAT_MAP_FULL"][0], 0] != self._overflow[:, 0].sum():
            now = self._read_overflow()
            overflow = now - self._overflow
            self._overflow = now
        rows = overflow[:, 0].nonzero()[0]
        return CounterDeltas(
            deltas,
            Overflow(
                (rows // 2).astype(np.uint8),
                (rows % 2).astype(np.uint8),
                overflow[rows, 0],
                overflow[rows, 1],
            ),
        )

    def _read_missed(self) -> int:
        return sum(bpf.program_info(fd).missed_runs for fd in self._programs)

    def _read_stats(self) -> NDArray[np.uint64]:
        """(packets, bytes) of each stat over all CPUs, shape (STATS_SIZE, 2)."""
        values = bpf.lookup_percpu(self._stats_fd, 0, CPU_STATS.dtype)
        sums: NDArray[np.uint64] = values.view(np.uint64).reshape(-1, STATS_SIZE, 2).sum(axis=0)
        return sums

    def _read_overflow(self) -> NDArray[np.uint64]:
        """(packets, bytes) of each protocol and hook side over all CPUs."""
        entries = 2 * _PROTOCOLS
        values = np.zeros((entries, bpf.possible_cpus()), COUNT.dtype)
        rows = values.view(f"V{values.strides[0]}")[:, 0]
        bpf.lookup_each(self._overflow_fd, np.arange(entries, dtype=np.uint32), rows)
        sums: NDArray[np.uint64] = values.view(np.uint64).reshape(entries, -1, 2).sum(axis=1)
        return sums
