from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest

from flowobs.agent import bpf, drain, loader
from flowobs.agent.drain import Counters, FlowDrain, wait_grace_period
from flowobs.agent.loader import Probes
from flowobs.agent.records import CONTROL, COUNT, CPU_STATS, FLOW, FLOW_KEY, RETRANSMITS, STATS
from tests.agent.netlab import cookie, in_private_netns

pytestmark = pytest.mark.bpf
TC = ("flow_ingress", "flow_egress")
ENTRIES = 4096
LOOPBACK = 1


@pytest.fixture
def probes() -> Iterator[Probes]:
    with loader.load("core", flow_entries=ENTRIES, only=TC) as loaded:
        yield loaded


def flow_drain(probes: Probes) -> FlowDrain:
    return FlowDrain(probes.maps)


def frame(port: int, proto: int = 17) -> bytes:
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 46, 0, 0, 64, proto, 0, b"\x0a\1\0\1", b"\x0a\1\0\2")
    return bytes(12) + b"\x08\x00" + ip + struct.pack("!HHHH", port, 9, 26, 0) + bytes(18)


def send(probes: Probes, ports: range, times: int = 1) -> None:
    for port in ports:
        bpf.test_run(probes.programs["flow_ingress"], frame(port), repeat=times)


def drained(source: FlowDrain) -> tuple[list[int], int]:
    """(ports, packets) of one drain."""
    ports: list[int] = []
    packets = 0
    for keys, flows in source.drain():
        assert keys.dtype == FLOW_KEY.dtype and flows.dtype == FLOW.dtype
        assert len(keys) == len(flows) > 0
        ports += keys["port_a"].tolist() if keys["port_a"][0] != 9 else keys["port_b"].tolist()
        packets += int(flows["packets"].sum())
    return ports, packets


def test_nothing_to_drain(probes: Probes) -> None:
    source = flow_drain(probes)
    assert drained(source) == ([], 0)
    assert source.fill == 0


def test_each_flow_once_and_each_packet(probes: Probes) -> None:
    source = flow_drain(probes)
    send(probes, range(1000, 1100), times=7)
    ports, packets = drained(source)
    assert (sorted(ports), packets) == (list(range(1000, 1100)), 700)
    assert source.fill == 100

    send(probes, range(1050, 1060))  # goes into the other map
    assert drained(source)[1] == 10
    assert drained(source) == ([], 0)


def test_more_than_one_batch(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "BATCH_ROWS", 64)
    source = flow_drain(probes)
    send(probes, range(1000, 2000))

    sizes = [len(keys) for keys, _ in source.drain()]

    # a bucket of the map's is never split
    assert sum(sizes) == 1000 and max(sizes) <= 64 and len(sizes) <= 20


def test_an_interval_knows_the_socket_of_an_end_that_sends_nothing(probes: Probes) -> None:
    source, ends = flow_drain(probes), (("127.0.0.1", 7001), ("127.0.0.1", 7002))

    def bound(own: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(ends[own])
        sock.connect(ends[not own])
        return sock

    def told(*senders: socket.socket) -> list[int]:
        for sender in senders:
            sender.send(b"x")
        ((_, flows),) = source.drain()
        return flows["cookie"].tolist()[0]

    def work() -> None:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        link = bpf.attach_tcx(probes.programs["flow_egress"], LOOPBACK, True)
        with bound(1) as b:
            with bound(0) as a:
                assert told(a) == [cookie(a), 0]
                assert told(b) == told(a, b) == told(b) == told(a) == [cookie(a), cookie(b)]
            with bound(0) as a:  # the port's next socket
                assert told(b, a) == told(b) == [cookie(a), cookie(b)]
        os.close(link)

    in_private_netns(work)


def test_a_segment_that_is_counted_while_the_maps_turn_is_in_the_drain_of_its_packet(
    probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its program looked up the flow map just before the turn, and counts it just after."""
    maps, waits = probes.maps, 0
    pairs = [maps["retransmits_0"], maps["retransmits_1"]]

    def count_meanwhile() -> bool:
        nonlocal waits
        waits += 1
        if waits == 1:
            control = np.zeros((), CONTROL.dtype)
            assert bpf.lookup(maps["control"], np.uint32(0), control)
            key, segments = np.zeros((), FLOW_KEY.dtype), np.zeros((), RETRANSMITS.dtype)
            key["proto"], segments["segments"] = 6, (3, 0)
            bpf.update(pairs[control["retransmits"]], key, segments)
        return True

    monkeypatch.setattr(drain, "wait_grace_period", count_meanwhile)
    names = ("retransmits_0", "retransmits_1")
    source = FlowDrain({**maps, **dict(zip(names, pairs, strict=True))})
    for _ in range(2):  # with either map
        waits = 0
        send(probes, range(1000, 1001))
        assert drained(source)[1] == 1
        assert source.retransmits[1]["segments"].tolist() == [[3, 0]] and waits == 2
        assert all(map(bpf.is_empty, pairs))
    assert drained(source) == ([], 0) and waits == 3  # nothing to turn for


def test_a_full_map_is_drained_to_the_last_flow(probes: Probes) -> None:
    source = flow_drain(probes)
    counters = Counters(probes.maps["stats"], probes.maps["overflow"])
    send(probes, range(1000, 1000 + ENTRIES + 50), times=2)

    _, packets = drained(source)

    assert source.fill == source.capacity == ENTRIES
    found = counters.read()
    assert packets + found.stats["map_full"][0] == 2 * (ENTRIES + 50)
    assert found.overflow.proto.tolist() == [17] and found.overflow.egress.tolist() == [0]
    assert found.overflow.packets.tolist() == [100]
    assert found.overflow.bytes.tolist() == [100 * len(frame(0))]
    again = counters.read()
    assert again.stats["map_full"] == (0, 0) and len(again.overflow.proto) == 0


def test_counters_start_where_they_stand(probes: Probes) -> None:
    send(probes, range(1000, 1010))
    counters = Counters(probes.maps["stats"], probes.maps["overflow"])
    assert not any(packets for packets, _ in counters.read().stats.values())
    bpf.test_run(probes.programs["flow_ingress"], bytes(12) + b"\x08\x06" + bytes(40))  # ARP
    assert counters.read().stats["not_ip"] == (1, 54)


def test_runs_that_the_kernel_left_out_are_counted(
    probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed = {7: 10, 8: 0}

    def info(fd: int) -> bpf.ProgramInfo:
        return bpf.ProgramInfo(17, fd, "made_up", 0, 0, missed[fd])

    monkeypatch.setattr(bpf, "program_info", info)
    counters = Counters(probes.maps["stats"], probes.maps["overflow"], (7, 8))
    assert counters.read().stats["missed_run"] == (0, 0)
    missed.update({7: 11, 8: 2})
    assert counters.read().stats["missed_run"] == (3, 0)
    assert counters.read().stats["missed_run"] == (0, 0)


def test_overflow_that_comes_after_its_statistic(probes: Probes) -> None:
    counters = Counters(probes.maps["stats"], probes.maps["overflow"])
    one = np.zeros(bpf.possible_cpus(), COUNT.dtype)
    one["packets"][0], one["bytes"][0] = 3, 300
    stats = np.zeros(bpf.possible_cpus(), CPU_STATS.dtype)
    stats["counts"][:, STATS["STAT_MAP_FULL"][0]] = one
    bpf.update(probes.maps["stats"], np.uint32(0), stats)
    assert len(counters.read().overflow.proto) == 0  # the program is between its two counters
    bpf.update(probes.maps["overflow"], np.uint32(2 * 6 + 1), one)

    found = counters.read()

    assert found.stats["map_full"] == (0, 0)
    assert (found.overflow.proto.tolist(), found.overflow.egress.tolist()) == ([6], [1])
    assert (found.overflow.packets.tolist(), found.overflow.bytes.tolist()) == ([3], [300])


def test_a_kernel_that_cannot_wait(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wait_grace_period()
    monkeypatch.setattr(drain, "_MEMBARRIER_GLOBAL", 1 << 30)  # EINVAL, as with nohz_full
    assert not wait_grace_period()
    source = flow_drain(probes)
    send(probes, range(1000, 1005))
    assert drained(source)[1] == 5
    assert source.unsure_waits == 1


def test_an_unknown_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain.platform, "machine", lambda: "vax")
    assert not wait_grace_period()
