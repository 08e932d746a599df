"""Packets of known flows are counted beside the flow map: each once, on its own flow, and with all
that they change.
"""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.kernel import packet
from flowobs.agent import bpf
from flowobs.agent.drain import Counters, FlowDrain
from flowobs.agent.records import FLOW_KEY
from flowobs.agent.tallies import Tallies
from tests.probes.test_conns import OBJECT

pytestmark = [pytest.mark.root, pytest.mark.bpf]

SYN, ACK, PSH, FIN, RST = 0x02, 0x10, 0x08, 0x01, 0x04
UDP = 17
SIDES = 2
LOOKED_AT = 4
"""A direction's packets before one is only counted, where none of them is SYN, FIN or RST."""


class Made:
    """The program with ``places`` for all tallies of a flow map, two to a place."""

    def __init__(self, program: int, maps: dict[str, int]) -> None:
        self.program, self.maps = program, maps
        self.drain = FlowDrain(maps)
        self.counters = Counters(maps["stats"], maps["overflow"])
        self.all_tallies = Tallies(maps["tallies"]).rows

    def send(self, *frames: bytes) -> None:
        bpf.test_run_each(self.program, frames)

    @property
    def tallies(self) -> NDArray[Any]:
        """Those in use, TALLY."""
        return self.all_tallies[self.all_tallies["name"] != 0]

    def drained(self) -> dict[bytes, NDArray[Any]]:
        """Each flow's totals by its key."""
        found: dict[bytes, NDArray[Any]] = {}
        for keys, flows in self.drain.drain():
            for key, flow in zip(keys, flows, strict=True):
                assert found.setdefault(key.tobytes(), flow.copy()) == flow, "a flow twice"
        return found


@contextmanager
def with_places(places: int) -> Iterator[Made]:
    with bpf.BpfObject(OBJECT) as made:
        made.select(["flow_ingress"])
        made.resize("tallies", SIDES * places)
        made.load()
        program = made.program_fd("flow_ingress")
        maps = {name: made.map_fd(name) for name in made.maps}
    try:
        yield Made(program, maps)
    finally:
        for fd in (program, *maps.values()):
            os.close(fd)


def only(found: dict[bytes, NDArray[Any]]) -> NDArray[Any]:
    (flow,) = found.values()
    return flow


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("places", [1, 7, 1024])
def test_whatever_finds_a_tally_every_packet_is_counted_once(places: int, family: int) -> None:
    chosen = random.Random(places)
    with with_places(places) as made:
        for _ in range(3):  # either map, and one of them again
            truth: Counter[tuple[int, int]] = Counter()
            frames = []
            for _ in range(4000):
                flow, reply = int(chosen.paretovariate(0.5)) % 500, chosen.randrange(2)
                flags = chosen.choice((ACK, ACK, ACK, PSH | ACK, SYN, SYN | ACK, FIN | ACK, RST))
                truth[flow, reply] += 1
                frames.append(packet(flow, family, 6, flags, reply))
            made.send(*frames)
            assert len(made.tallies) <= 2 * places
            assert places == 1024 or len(made.tallies) == 2 * places
            found = made.drained()
            assert not len(made.tallies), "each is given back"
            told: Counter[tuple[int, int]] = Counter()
            for name, flow in found.items():
                key = np.frombuffer(name, FLOW_KEY.dtype)[0]
                client = int(key["port_b"] if key["port_a"] == 443 else key["port_a"])
                sent_by_b = int(key["port_a"] == 443)
                for way in range(2):
                    number = int(flow["packets"][way])
                    told[client - 1024, way ^ sent_by_b] += number
                    assert flow["bytes"][way] == number * len(frames[0])
            assert +told == truth
        assert made.counters.read().stats["map_full"] == (0, 0)


def test_what_is_drained_is_not_what_is_written_to() -> None:
    with with_places(16) as made:
        for half in (0, 1, 0):
            made.send(*[packet(flow) for flow in range(8) for _ in range(LOOKED_AT)])
            at = np.flatnonzero(made.all_tallies["name"])
            assert at.size and set(at // 32) == {half}
            made.drained()


def test_flows_that_differ_in_one_thing_share_no_tally() -> None:
    """Sixteen tallies for all of them: many meet in a place, and each has another count."""

    def tagged(frame: bytes, vlan: int) -> bytes:
        return frame[:12] + b"\x81\0" + vlan.to_bytes(2, "big") + frame[12:]

    def changed(frame: bytes, at: int) -> bytes:
        return frame[:at] + bytes((frame[at] ^ 0x80,)) + frame[at + 1 :]

    frames = [packet(0, family, proto) for family in (4, 6) for proto in (6, UDP, 132)]
    frames += [tagged(packet(0), vlan) for vlan in range(1, 5)]
    frames += [changed(packet(0, proto=UDP), at) for at in (*range(26, 34), 35, 36)]
    frames += [changed(packet(0, 6, UDP), at) for at in range(22, 54)]
    with with_places(8) as made:
        truth = []
        for number, frame in enumerate(frames, LOOKED_AT + 1):
            made.send(*[frame] * number)
            truth.append(number)
        assert len(made.tallies) == 16
        found = made.drained()
        assert sorted(int(flow["packets"].sum()) for flow in found.values()) == truth


def test_what_a_packet_says_besides_is_kept() -> None:
    with with_places(16) as made:
        made.send(*[packet(0, flags=ACK)] * LOOKED_AT)
        time.sleep(0.1)
        later = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        time.sleep(0.05)
        made.send(*[packet(0, flags=ACK)] * 2, packet(0, flags=ACK | PSH))
        assert made.tallies["counts"][0].tolist() == [3 << 40 | 3 * 64, 0]
        flow = only(made.drained())
        assert flow["packets"].tolist() == [LOOKED_AT + 3, 0]
        assert flow["tcp_flags"].tolist() == [ACK | PSH, 0]
        assert flow["last_ns"] > later


def test_who_stops_the_other_end_is_told_though_its_flow_is_known() -> None:
    """A window of zero, bytes 48 and 49 of these frames."""
    with with_places(16) as made:
        for family, window in ((4, 48), (6, 68)):
            known = [packet(0, family)] * LOOKED_AT
            closed = [frame[:window] + bytes(2) + frame[window + 2 :] for frame in known]
            made.send(*known, *closed, *known)
        assert len(made.tallies) == 2
        for flow in made.drained().values():
            assert sorted(flow["zero_windows"]) == [0, LOOKED_AT]
            assert sorted(flow["packets"]) == [0, 3 * LOOKED_AT]


def test_a_flow_of_few_packets_takes_none() -> None:
    with with_places(16) as made:
        for way in range(2):
            made.send(*[packet(0, flags=ACK, reply=way)] * (LOOKED_AT - 1))
        assert not len(made.tallies)


def test_a_handshake_is_looked_at_though_its_flow_is_known() -> None:
    """The same ports again, within one interval."""
    ways = ((0, SYN), (1, SYN | ACK), *((way, ACK) for way in (0, 1) * LOOKED_AT))
    once = [packet(0, flags=flags, reply=way) for way, flags in ways]
    with with_places(16) as made:
        made.send(*once)
        assert made.tallies["ready"].tolist() == [[1, 1]]
        before = only(made.drained())
        made.send(*once, packet(0, flags=FIN | ACK), packet(0, flags=FIN | ACK, reply=1))
        assert made.tallies["ready"].tolist() == [[0, 0]]
        made.send(*once)
        after = only(made.drained())
        assert before["connect_ns"] > 0 and after["connect_ns"] > 0
        assert after["connect_ns"] != before["connect_ns"]
        assert after["handshake"] == 0 and after["packets"].sum() == 2 * len(once) + 2


@pytest.mark.parametrize("full", [(1 << 23) - 1 << 40, (1 << 39) - 1])
def test_a_tally_that_is_half_full_is_left_alone(full: int) -> None:
    with with_places(16) as made:
        made.send(*[packet(0, flags=ACK)] * LOOKED_AT)
        rows = made.all_tallies
        rows["counts"][rows["name"] != 0, 0] = full
        made.send(*[packet(0, flags=ACK)] * 10)
        assert made.tallies["counts"][0, 0] == full + (1 << 40 | 64), "one goes over it"
        flow = only(made.drained())
        assert flow["packets"][0] == LOOKED_AT + (full >> 40) + 10
        assert flow["bytes"][0] == LOOKED_AT * 64 + (full & (1 << 40) - 1) + 10 * 64


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs a program on frames, half of them on each of two processors."""
    library = tmp_path_factory.mktemp("made") / "together.so"
    source = Path(__file__).with_name("together.c")
    command = ["clang", "-O2", "-shared", "-fPIC", "-pthread", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library)).together


@pytest.mark.parametrize("places", [1, 64, 4096])
def test_two_processors_share_tallies_and_lose_no_packet(together: Any, places: int) -> None:
    """Both have the same packets in the same order, so that they meet in places, and in flows."""
    flows, each = 2000, LOOKED_AT + 2
    with with_places(places) as made:
        for first in range(0, 20 * flows, flows):
            frames = [packet(first + i // each, proto=UDP) for i in range(flows * each)] * 2
            assert not together(made.program, b"".join(frames), len(frames[0]), len(frames))
            found = made.drained()
            assert len(found) == flows
            assert {int(flow["packets"].sum()) for flow in found.values()} == {2 * each}
            assert not len(made.tallies), "none is lost"


def test_few_flows_have_their_tallies_close_together() -> None:
    """And many soon have more, without losing a packet on the way."""
    with with_places(1024) as made:
        for flows, most in (*[(3, 1024)] * 20, (3, 64), (900, 64)):
            made.send(*[packet(flow) for flow in range(flows) for _ in range(LOOKED_AT + 1)])
            at = np.flatnonzero(made.all_tallies["name"]) // 2 % 1024
            assert at.size and at.max() < most
            found = made.drained()
            assert [int(flow["packets"].sum()) for flow in found.values()] == [5] * flows
        made.send(packet(0))
        made.drained()
        made.send(*[packet(flow) for flow in range(900) for _ in range(LOOKED_AT + 1)])
        assert len(made.tallies) > 800
