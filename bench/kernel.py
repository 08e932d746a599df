"""Kernel time per packet of the tc program next to an empty one: BPF_PROG_TEST_RUN, no traffic.

``stats`` figures hold about 29 ns of the kernel's own measuring; the empty program shows how much
on this machine.
"""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flowobs.agent import bpf
from flowobs.agent.loader import load

HERE = Path(__file__).parent
HOT_RUNS = 2_000_000
ROUNDS = 3


def packet(flow: int, family: int = 4) -> bytes:
    """A 64-byte TCP ACK (74 with IPv6), a different flow for each number."""
    ports = struct.pack("!HHIIBBHHH", 1024 + flow % 60000, 443, 1, 1, 0x50, 0x10, 512, 0, 0)
    if family == 6:
        ip = (
            struct.pack("!IHBB", 0x60000000, 20, 6, 64)
            + struct.pack("!QQ", 0xFD << 56, flow)
            + bytes(15)
            + b"\2"
        )
        return bytes(12) + b"\x86\xdd" + ip + ports
    source = struct.pack("!I", (10 << 24) + flow // 60000 + 1)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 50, 0, 0, 64, 6, 0) + source + bytes((10, 1, 0, 1))
    return bytes(12) + b"\x08\x00" + ip + ports + bytes(10)


def _cost(prog: int, run: Callable[[], object]) -> float:
    before = bpf.program_info(prog)
    run()
    after = bpf.program_info(prog)
    return (after.run_time_ns - before.run_time_ns) / (after.run_count - before.run_count)


def _hot(prog: int, data: bytes) -> float:
    return min(
        _cost(prog, lambda: bpf.test_run(prog, data, repeat=HOT_RUNS)) for _ in range(ROUNDS)
    )


def _spread(prog: int, packets: list[bytes]) -> float:
    def run() -> None:
        for data in packets:
            bpf.test_run(prog, data)

    return _cost(prog, run)


@contextmanager
def _empty() -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "empty.bpf.o"
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

    Times are nanoseconds per packet, the smallest of three rounds for hot flows.
    """
    rows: list[dict[str, object]] = []
    stats = bpf.enable_stats()
    try:
        with _empty() as empty:
            base = _hot(empty, packet(0))

        def add(metric: str, value: float) -> None:
            row = {"bench": "kernel", "metric": metric, "value": value, "unit": "ns"}
            rows.append(row | {"against": "empty_ns", "ratio": value / base})

        add("empty_ns", base)
        for family, suffix in ((4, ""), (6, "_v6")):
            probes = load("core", flow_entries=131072)
            try:
                prog = probes.programs["flow_ingress"]
                ten = [packet(i, family) for i in range(10_000)]
                hundred = [packet(i + 20_000, family) for i in range(100_000)]
                add(f"hot{suffix}_ns", _hot(prog, packet(10_001, family)))
                add(f"insert_10k{suffix}_ns", _spread(prog, ten))
                add(f"update_10k{suffix}_ns", min(_spread(prog, ten) for _ in range(ROUNDS)))
                add(f"insert_100k{suffix}_ns", _spread(prog, hundred))
                add(f"update_100k{suffix}_ns", _spread(prog, hundred))
            finally:
                probes.close()
    finally:
        os.close(stats)
    return rows
