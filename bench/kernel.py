"""Kernel time per packet of the tc program next to an empty one: BPF_PROG_TEST_RUN, no traffic.

All figures hold the kernel's own measuring, 29 to 46 ns, and more out of cold caches; the empty
program shows how much on this machine. ``line`` is the least that counting by flow can cost: of
10,000 flows a packet's cache line is not in the core's own caches, also because the kernel fills
them with a new socket for each run.

What else a machine does moves every figure, for milliseconds or for minutes. So all are measured in
turns from the beginning to the end, in pieces of a tenth of a millisecond, and a figure is the mean
of each piece's least: whatever disturbs a piece must do so in every turn.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import struct
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import _yardstick
from flowobs.agent import bpf
from flowobs.agent.drain import FlowDrain
from flowobs.agent.features import REQUIRED
from flowobs.agent.loader import load
from flowobs.agent.records import EVENT
from flowobs.agent.ring import RingReader

TCP, UDP = 6, 17
FAMILIES = {4: "", 6: "_v6"}
HERE = Path(__file__).parent
TURNS = 15
HOT_RUNS, HOT_ROUNDS = 50_000, 4
COLD_RUNS = 100
UPDATES = 100_000  # packets of known flows in a turn
PIECE = 100  # flows
FEW = 5_000  # flows whose openings the ring holds
FULL = 400_000  # connections, more than their table holds
DRAIN_TURNS = 3  # of connections: as many as a busy second has

Packets = tuple[tuple[int, int], ...]
"""(reply, TCP flags) of each."""
CONNECTION: Packets = ((0, 0x02), (1, 0x12), (0, 0x10), (0, 0x18), (1, 0x19), (0, 0x11), (1, 0x10))
"""Handshake, question, answer with FIN, FIN, ACK."""
REFUSED: Packets = ((0, 0x02), (1, 0x14))

Costs = NDArray[np.float64]
"""Nanoseconds a run, shape (rounds, pieces): each piece the same way in all rounds."""
Turn = Iterator[dict[str, Costs]]
"""Measures a little each time it is asked to, by metric."""


def packet(
    flow: int, family: int = 4, proto: int = TCP, flags: int = 0x10, reply: int = 0
) -> bytes:
    """A 64-byte TCP ACK (74 with IPv6), or UDP; a different flow for each number."""
    ports = (443, 1024 + flow % 60000) if reply else (1024 + flow % 60000, 443)
    transport = struct.pack("!HHIIBBHHH", *ports, 1, 1, 0x50, flags, 512, 0, 0)
    if family == 6:
        ends = struct.pack("!QQ", 0xFD << 56, flow), bytes(15) + b"\2"
        ip = struct.pack("!IHBB", 0x60000000, 20, proto, 64) + b"".join(ends[:: -1 if reply else 1])
        return bytes(12) + b"\x86\xdd" + ip + transport
    ends = struct.pack("!I", (10 << 24) + flow // 60000 + 1), bytes((10, 1, 0, 1))
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 50, 0, 0, 64, proto, 0)
    ip += b"".join(ends[:: -1 if reply else 1])
    return bytes(12) + b"\x08\x00" + ip + transport + bytes(10)


class Spread:
    """The cost of a program over packets of one size, each run once, without Python in between."""

    def __init__(self, folder: Path) -> None:
        out = folder / "spread.so"
        command = ["clang", "-O2", "-shared", "-fPIC", str(HERE / "spread.c"), "-o", str(out)]
        subprocess.run(command, check=True)
        made = ctypes.CDLL(str(out), use_errno=True)
        self._spread, self._cold = made.spread, made.cold

    def __call__(self, prog: int, packets: list[bytes], pieces: int) -> Costs:
        """One round, of as many pieces of equal size."""
        frames, size, piece = b"".join(packets), len(packets[0]), len(packets) // pieces
        taken = np.zeros(pieces + 1, np.uint64)
        ns = taken.ctypes.data_as(ctypes.c_void_p)
        self._check(self._spread(prog, frames, size, pieces, piece, ns))
        return np.diff(taken)[np.newaxis] / piece

    def cold(self, first: int, second: int, data: bytes, times: int) -> Costs:
        """One round of one piece: of both programs together, each time out of cold caches."""
        taken = ctypes.c_uint64()
        self._check(self._cold(first, second, data, len(data), times, ctypes.byref(taken)))
        return np.array([[taken.value / times]])

    def _check(self, error: int) -> None:
        if error:
            raise OSError(ctypes.get_errno(), "cannot run the program on a packet")


class Subject:
    """The program at an interface, with maps of its own."""

    def __init__(self, stack: ExitStack, spread: Spread, entries: int) -> None:
        probes = stack.enter_context(load("core", only=REQUIRED, flow_entries=entries))
        maps = probes.maps
        self.prog, self.egress = (probes.programs[n] for n in ("flow_ingress", "flow_egress"))
        self._ring = stack.enter_context(closing(RingReader(maps["events"], EVENT.dtype)))
        self._drain = FlowDrain(maps)
        self._spread = spread

    def costs(self, packets: list[bytes], flows: int) -> Costs:
        """Of packets of so many flows, one flow after the other."""
        return self._spread(self.prog, packets, flows // PIECE)

    def read(self) -> int:
        """The ring; how many events there were."""
        return sum(map(len, self._ring.read()))

    def empty(self) -> None:
        """The flow maps."""
        for _ in self._drain.drain():
            pass


def _hot(metric: str, prog: int, data: bytes) -> Turn:
    while True:
        costs = []
        for _ in range(HOT_ROUNDS):
            before = bpf.program_info(prog).run_time_ns
            bpf.test_run(prog, data, repeat=HOT_RUNS)
            costs.append([(bpf.program_info(prog).run_time_ns - before) / HOT_RUNS])
        yield {metric: np.array(costs)}


def _forward(metric: str, spread: Spread, pair: tuple[int, int], data: bytes) -> Turn:
    """A packet of a known flow that comes in and goes out again, out of cold caches."""
    while True:
        yield {metric: np.vstack([spread.cold(*pair, data, COLD_RUNS) for _ in range(HOT_ROUNDS)])}


def _flows(name: str, subject: Subject, count: int, family: int) -> Turn:
    """New flows, and then their packets again; no others are in the map."""
    for first in itertools.count(0, count):
        packets = [packet(flow, family) for flow in range(first, first + count)]
        insert = subject.costs(packets, count)
        updates = [subject.costs(packets, count) for _ in range(UPDATES // count)]
        subject.empty()
        yield {f"insert_{name}": insert, f"update_{name}": np.vstack(updates)}


def _line(count: int, spread: Spread, prog: int) -> Turn:
    packets = [packet(flow) for flow in range(count)]
    while True:
        rounds = [spread(prog, packets, count // PIECE) for _ in range(UPDATES // count)]
        yield {f"line_{count // 1000}k": np.vstack(rounds)}


def _event(suffix: str, subject: Subject, family: int) -> Turn:
    """Inserts that tell of the opening (UDP), and such that do not (TCP, without SYN)."""
    for first in itertools.count(0, FEW):
        found = {}
        for name, proto, events in (("telling", UDP, FEW), ("silent", TCP, 0)):
            packets = [packet(flow, family, proto) for flow in range(first, first + FEW)]
            found[name + suffix] = subject.costs(packets, FEW)
            told = subject.read()
            assert told == events, f"{FEW} flows opened, the ring has {told}"
            subject.empty()
        yield found


def _connect(subject: Subject, first: int, family: int, packets: Packets) -> Costs:
    """All packets of a connection, one connection after the other."""
    flows = range(first, first + FEW)
    sent = [packet(flow, family, TCP, flags, way) for flow in flows for way, flags in packets]
    costs = subject.costs(sent, FEW) * len(packets)
    subject.read()
    return costs


def _connection(metric: str, subject: Subject, family: int) -> Turn:
    """Where the table of known connections has long been full."""
    for turn in itertools.count():
        yield {metric: _connect(subject, turn * FEW, family, CONNECTION)}
        if turn % DRAIN_TURNS == 0:
            subject.empty()


def run() -> list[dict[str, object]]:
    """Needs root and clang. Times are nanoseconds per packet; ``connection`` is for all packets of
    one in a row, with its event.
    """
    with tempfile.TemporaryDirectory() as made:
        stats = bpf.enable_stats()
        try:
            found = _measure(Path(made))
        finally:
            os.close(stats)
    value = {name: float(costs.min(axis=0).mean()) for name, costs in found.items()}
    for suffix in FAMILIES.values():
        value[f"event{suffix}"] = value.pop(f"telling{suffix}") - value.pop(f"silent{suffix}")
    return [
        {
            "bench": "kernel",
            "metric": f"{name}_ns",
            "value": ns,
            "unit": "ns",
            "against": f"{yardstick}_ns",
            "ratio": ns / value[yardstick],
        }
        for name, ns in value.items()
        for yardstick in (_yardstick_of(name),)
    ]


def _yardstick_of(name: str) -> str:
    if name.startswith("update_10k"):
        return "line_10k"
    return "empty_cold" if "cold" in name else "empty"


def _measure(folder: Path) -> dict[str, Costs]:
    spread = Spread(folder)
    with ExitStack() as stack:
        empty = stack.enter_context(_yardstick.loaded())
        few, many, telling, full = (
            Subject(stack, spread, entries) for entries in (65_536, 131_072, 65_536, 65_536)
        )
        for start in range(FULL, 2 * FULL, FEW):
            _connect(full, start, 4, REFUSED)
            if start % (DRAIN_TURNS * FEW) == 0:
                full.empty()
        families = FAMILIES.items()
        turns = [_hot("empty", empty, packet(0))]
        turns += [_hot(f"hot{suffix}", few.prog, packet(0, family)) for family, suffix in families]
        turns += [_forward("empty_cold", spread, (empty, empty), packet(0))]
        turns += [
            _forward(f"forward_cold{suffix}", spread, (few.prog, few.egress), packet(0, family))
            for family, suffix in families
        ]
        turns += [_line(10_000, spread, stack.enter_context(_yardstick.loaded("line")))]
        turns += [_flows(f"10k{suffix}", few, 10_000, family) for family, suffix in families]
        turns += [_flows(f"100k{suffix}", many, 100_000, family) for family, suffix in families]
        turns += [_event(suffix, telling, family) for family, suffix in families] * 2
        turns += [_connection(f"connection{suffix}", full, family) for family, suffix in families]
        found: defaultdict[str, list[Costs]] = defaultdict(list)
        for _ in range(TURNS):
            for turn in turns:
                for metric, costs in next(turn).items():
                    found[metric].append(costs)
    return {metric: np.vstack(costs) for metric, costs in found.items()}
