"""What outlives a drain is in a table that holds as many connections as the flow map, and others
while there is room.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

import flowobs
from bench.kernel import packet
from flowobs.agent import bpf
from flowobs.agent.drain import Counters, FlowDrain
from flowobs.agent.features import REQUIRED
from flowobs.agent.loader import load
from flowobs.agent.records import EVENT
from flowobs.agent.ring import RingReader
from flowobs.schema import Kind

pytestmark = [pytest.mark.root, pytest.mark.bpf]

OBJECT = Path(flowobs.__file__).parents[1] / "probes" / "build" / "flow.bpf.o"
WAYS = 16
SYN, ACK, RST = 0x02, 0x10, 0x04


@contextmanager
def with_places(count: int) -> Iterator[tuple[int, dict[str, int]]]:
    """The program and its maps where all connections have so many places."""
    with bpf.BpfObject(OBJECT) as made:
        made.select(["flow_ingress"])
        made.resize("conns", count)
        made.load()
        program = made.program_fd("flow_ingress")
        maps = {name: made.map_fd(name) for name in made.maps}
    try:
        yield program, maps
    finally:
        for fd in (program, *maps.values()):
            os.close(fd)


def test_an_opening_is_told_where_nothing_remembers_it() -> None:
    with with_places(1) as (program, maps):
        counters = Counters(maps["stats"], maps["overflow"])
        with closing(RingReader(maps["events"], EVENT.dtype)) as ring:
            for flow in range(WAYS + 3):
                bpf.test_run(program, packet(flow, flags=SYN))
            told = [kind for events in ring.read() for kind in events["kind"].tolist()]
        assert told == [Kind.open] * (WAYS + 3)
        assert counters.read().stats["forgotten"][0] == 3


def test_a_connection_that_ended_is_no_loss() -> None:
    with with_places(1) as (program, maps):
        counters = Counters(maps["stats"], maps["overflow"])
        for flow in range(2 * WAYS):
            bpf.test_run(program, packet(flow, flags=SYN))
            bpf.test_run(program, packet(flow, flags=RST))
        assert counters.read().stats["forgotten"][0] == 0


@pytest.mark.parametrize("places", [2, 8], ids=["too few places", "enough"])
def test_what_two_processors_put_into_one_place_at_once_is_remembered_or_counted(
    tmp_path: Path, places: int
) -> None:
    rounds, count = 200, 64
    library = tmp_path / "together.so"
    source = Path(__file__).with_name("together.c")
    command = ["clang", "-O2", "-shared", "-fPIC", "-pthread", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    together = ctypes.CDLL(str(library)).together
    with with_places(places) as (program, maps):
        counters = Counters(maps["stats"], maps["overflow"])
        indices = np.arange(places, dtype=np.uint32)
        size = bpf.map_info(maps["conns"]).value_size
        for first in range(0, rounds * count, count):
            for index in indices:
                bpf.update(maps["conns"], index, np.zeros(size, np.uint8))
            frames = [packet(flow, flags=SYN) for flow in range(first, first + count)]
            assert not together(program, b"".join(frames), len(frames[0]), count)
            table = np.zeros((places, size), np.uint8)
            bpf.lookup_each(maps["conns"], indices, table.view(f"V{size}")[:, 0])
            tags = table.view(np.uint32)[:, : 2 * WAYS : 2]
            forgotten = counters.read().stats["forgotten"][0]
            assert np.count_nonzero(tags) + forgotten == count


def test_as_many_as_the_flow_map_holds_are_all_remembered() -> None:
    count = 60_000
    with load("core", only=REQUIRED) as probes:
        maps, program = probes.maps, probes.programs["flow_ingress"]
        counters = Counters(maps["stats"], maps["overflow"])
        drain = FlowDrain(maps)

        def begins(flags: int) -> dict[bytes, int]:
            """When each flow began, as its record tells after a packet of each."""
            bpf.test_run_each(program, [packet(flow, flags=flags) for flow in range(count)])
            return {
                key.tobytes(): began
                for keys, flows in drain.drain()
                for key, began in zip(keys, flows["start_ns"].tolist(), strict=True)
            }

        first = begins(SYN)
        assert len(first) == count
        assert begins(ACK) == first
        assert counters.read().stats["forgotten"][0] == 0
