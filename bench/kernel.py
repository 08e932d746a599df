"""Kernel time per packet of the tc program next to an empty one: BPF_PROG_TEST_RUN, no traffic.

``stats`` figures hold about 29 ns of the kernel's own measuring; the empty program shows how much
on this machine.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from flowobs.agent import bpf
from flowobs.agent.drain import FlowDrain
from flowobs.agent.features import REQUIRED
from flowobs.agent.loader import Probes, load
from flowobs.agent.records import EVENT
from flowobs.agent.ring import RingReader

TCP, UDP = 6, 17
HERE = Path(__file__).parent
HOT_RUNS = 50_000
HOT_ROUNDS = 40
ROUNDS = 20
CHUNK = 500  # of the open events that a ring of 64 pages holds


CONNECTION = ((0, 0x02), (1, 0x12), (0, 0x10), (0, 0x18), (1, 0x19), (0, 0x11), (1, 0x10))
"""(reply, TCP flags) of its packets: handshake, question, answer with FIN, FIN, ACK."""
CONNECTIONS, CONNECTION_ROUNDS = 15_000, 24


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


def _cost(prog: int, run: Callable[[], object]) -> float:
    before = bpf.program_info(prog)
    run()
    after = bpf.program_info(prog)
    return (after.run_time_ns - before.run_time_ns) / (after.run_count - before.run_count)


def _hot(prog: int, data: bytes) -> float:
    # short rounds: one of them finds the shared core to itself
    def run() -> None:
        bpf.test_run(prog, data, repeat=HOT_RUNS)

    return min(_cost(prog, run) for _ in range(HOT_ROUNDS))


class Spread:
    """The cost of a program over packets of one size, each run once, without Python in between."""

    def __init__(self, folder: Path) -> None:
        out = folder / "spread.so"
        command = ["clang", "-O2", "-shared", "-fPIC", str(HERE / "spread.c"), "-o", str(out)]
        subprocess.run(command, check=True)
        self._call = ctypes.CDLL(str(out), use_errno=True).spread

    def __call__(self, prog: int, packets: list[bytes]) -> float:
        frames, size = b"".join(packets), len(packets[0])

        def run() -> None:
            if self._call(prog, frames, size, len(packets)):
                raise OSError(ctypes.get_errno(), "cannot run the program on a packet")

        return _cost(prog, run)


def _connection(probes: Probes, spread: Spread, family: int) -> float:
    """All packets of a new connection, one connection after the other, where the table of known
    ones has long been full.
    """
    prog, maps, costs = probes.programs["flow_ingress"], probes.maps, []
    drain = FlowDrain((maps["flows_0"], maps["flows_1"]), maps["control"])
    with closing(RingReader(maps["events"], EVENT.dtype)) as ring:
        for first in range(0, CONNECTIONS * CONNECTION_ROUNDS, CONNECTIONS):
            for start in range(first, first + CONNECTIONS, CHUNK):
                packets = [
                    packet(flow, family, TCP, flags, reply)
                    for flow in range(start, start + CHUNK)
                    for reply, flags in CONNECTION
                ]
                costs.append(spread(prog, packets) * len(CONNECTION))
                ring.read()
            for _ in drain.drain():
                pass
    return statistics.median(costs[len(costs) * 3 // 4 :])


def _event(probes: Probes, spread: Spread, family: int) -> float:
    """An insert that tells of the opening (UDP) minus one that does not (TCP, without SYN)."""
    prog, costs = probes.programs["flow_ingress"], []
    with closing(RingReader(probes.maps["events"], EVENT.dtype)) as ring:
        for start in range(0, 40 * CHUNK, CHUNK):
            flows = range(start, start + CHUNK)
            telling, silent = (
                spread(prog, [packet(flow, family, proto) for flow in flows])
                for proto in (UDP, TCP)
            )
            told = sum(len(events) for events in ring.read())
            assert told == CHUNK, f"{CHUNK} flows opened, the ring has {told}"
            costs.append(telling - silent)
    return statistics.median(costs)


@contextmanager
def _empty(folder: Path) -> Iterator[int]:
    out = folder / "empty.bpf.o"
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    compile = ["clang", "-O2", "-g", "-target", "bpf", include, "-c"]
    subprocess.run([*compile, str(HERE / "empty.bpf.c"), "-o", str(out)], check=True)
    made = bpf.BpfObject(out)
    try:
        made.load()
        yield made.program_fd("empty")
    finally:
        made.close()


def run() -> list[dict[str, object]]:
    """Needs root and clang.

    Times are nanoseconds per packet: of hot flows and updates the smallest of some rounds, of
    inserts those of one round, of an event the median of pairs. ``connection`` is for all packets
    of one in a row, with its event: the median of 180 times 500 of them.
    """
    with tempfile.TemporaryDirectory() as made:
        stats = bpf.enable_stats()
        try:
            return _measure(Path(made))
        finally:
            os.close(stats)


def _measure(folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    spread = Spread(folder)
    with _empty(folder) as empty:
        base = _hot(empty, packet(0))

    def add(metric: str, value: float) -> None:
        row = {"bench": "kernel", "metric": metric, "value": value, "unit": "ns"}
        rows.append(row | {"against": "empty_ns", "ratio": value / base})

    add("empty_ns", base)
    for family, suffix in ((4, ""), (6, "_v6")):
        for entries, count, name in ((65_536, 10_000, "10k"), (131_072, 100_000, "100k")):
            with load("core", only=REQUIRED, flow_entries=entries) as probes:
                prog = probes.programs["flow_ingress"]
                if name == "10k":
                    add(f"hot{suffix}_ns", _hot(prog, packet(count, family)))
                packets = [packet(flow, family) for flow in range(count)]
                add(f"insert_{name}{suffix}_ns", spread(prog, packets))
                add(f"update_{name}{suffix}_ns", min(spread(prog, packets) for _ in range(ROUNDS)))
        with load("core", only=REQUIRED) as probes:
            add(f"event{suffix}_ns", _event(probes, spread, family))
        with load("core", only=REQUIRED) as probes:
            add(f"connection{suffix}_ns", _connection(probes, spread, family))
    return rows
