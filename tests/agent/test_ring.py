from __future__ import annotations

import ctypes.util
import fcntl
import os
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flowobs.agent import bpf, loader, perf, ring
from flowobs.agent.records import CPU_STATS, EVENT, STATS
from flowobs.agent.ring import LOST, SAMPLE, Layout, RingReader, parse, pending

RECORD = np.dtype([("number", "<u4"), ("rest", "<u8", (2,))])  # 20 bytes: a perf record of 32
LAYOUT = Layout(RECORD)


def sample(number: int) -> bytes:
    payload = struct.pack("<I2Q", number, 0, 0)
    return struct.pack("<IHHI", SAMPLE, 0, LAYOUT.size, LAYOUT.raw_size) + payload


def lost(count: int) -> bytes:
    return struct.pack("<IHHQQ", LOST, 0, 24, 7, count)


def other(size: int) -> bytes:
    """A record of some other type."""
    return struct.pack("<IHH", 5, 0, size) + bytes(size - 8)


def parsed(data: bytes) -> tuple[list[int], int, int]:
    found = parse(np.frombuffer(data, np.uint8), LAYOUT)
    return found.records["number"].tolist(), found.lost, found.odd


def test_an_event_makes_a_record_of_128_bytes() -> None:
    assert Layout(EVENT.dtype).size == 128


def test_one_run_of_records() -> None:
    assert parsed(b"".join(map(sample, range(100)))) == (list(range(100)), 0, 0)


def test_nothing() -> None:
    assert parsed(b"") == ([], 0, 0)


def test_lost_and_odd_records_between() -> None:
    data = sample(1) + lost(5) + sample(2) + sample(3) + other(16) + lost(1) + other(8) + sample(4)

    assert parsed(data) == ([1, 2, 3, 4], 6, 2)


def test_a_sample_of_another_size_is_odd() -> None:
    wide = struct.pack("<IHHI", SAMPLE, 0, 40, 28) + bytes(28)
    assert parsed(sample(1) + wide + sample(2)) == ([1, 2], 0, 1)
    lying = bytearray(sample(9))
    lying[8:12] = struct.pack("<I", 4)  # header of the right size, payload of a wrong one
    assert parsed(sample(1) + bytes(lying) + sample(2)) == ([1, 2], 0, 1)


@pytest.mark.parametrize("size", [0, 4, 7, 9, 20, 60_000])
def test_a_size_that_cannot_be_ends_the_batch(size: int) -> None:
    broken = struct.pack("<IHH", SAMPLE, 0, size)
    assert parsed(sample(1) + broken + sample(2)) == ([1], 0, 1)


def test_cut_off_at_every_byte() -> None:
    data = sample(1) + lost(2) + sample(3)
    for end in range(len(data)):
        numbers, _, odd = parsed(data[:end])
        assert numbers == [1] * (end >= 32)
        assert odd == (end not in (0, 32, 56))


def test_wrap_at_every_position() -> None:
    data = np.frombuffer(sample(1) + lost(2) + sample(3) + other(8), np.uint8)
    size = 128
    for tail in range(0, 3 * size, 8):
        circle = np.zeros(size, np.uint8)
        circle[np.arange(tail, tail + len(data)) % size] = data
        found = pending(circle, tail, tail + len(data))
        assert found.tobytes() == data.tobytes()
    assert pending(circle, 64, 64).tobytes() == b""
    assert len(pending(circle, 64, 64 + size)) == size


def test_positions_that_cannot_be() -> None:
    for tail, head in ((0, 129), (8, 0)):
        with pytest.raises(ValueError, match="cannot hold"):
            pending(np.zeros(128, np.uint8), tail, head)


PIECES = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda n: ("sample", n)),
    st.integers(0, 1000).map(lambda n: ("lost", n)),
    st.sampled_from([8, 16, 40, 48]).map(lambda n: ("odd", n)),
)
MAKE = {"sample": sample, "lost": lost, "odd": other}


@given(st.lists(PIECES, max_size=40), st.integers(0, 10_000).map(lambda n: 8 * n))
def test_any_mixture_at_any_position(pieces: list[tuple[str, int]], tail: int) -> None:
    data = np.frombuffer(b"".join(MAKE[kind](n) for kind, n in pieces), np.uint8)
    circle = np.zeros(4096, np.uint8)
    circle[np.arange(tail, tail + len(data)) % 4096] = data

    found = parse(pending(circle, tail, tail + len(data)), LAYOUT)

    assert found.records["number"].tolist() == [n for kind, n in pieces if kind == "sample"]
    assert found.lost == sum(n for kind, n in pieces if kind == "lost")
    assert found.odd == sum(kind == "odd" for kind, _ in pieces)


@given(st.binary(max_size=600), st.integers(0, 3))
def test_garbage_is_survived(garbage: bytes, good: int) -> None:
    data = b"".join(map(sample, range(good))) + garbage
    numbers, _, odd = parsed(data)

    assert numbers[:good] == list(range(good))
    assert 0 <= odd <= len(garbage) // 8 + 1


def test_cpu_list() -> None:
    assert perf.cpu_list("0-2,5\n") == [0, 1, 2, 5]
    assert perf.cpu_list("0") == [0]


def page(tail: int, head: int) -> NDArray[np.uint64]:
    words = np.zeros(512, np.uint64)
    words[128], words[129] = head, tail
    return words


@pytest.mark.skipif(ctypes.util.find_library("atomic") is None, reason="libatomic1 is missing")
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_positions_on_any_machine(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    monkeypatch.setattr(perf.platform, "machine", lambda: machine)
    words = page(64, 1 << 40)
    shared = perf.positions(words)

    assert shared.load() == (64, 1 << 40)
    shared.store_tail(1 << 33)
    assert words[129] == 1 << 33


def test_without_libatomic_the_reader_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(perf.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(perf.ctypes, "CDLL", missing)
    with pytest.raises(OSError, match="install the package libatomic1"):
        perf.positions(page(0, 0))


def test_an_unknown_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perf.platform, "machine", lambda: "vax")
    with pytest.raises(OSError, match="for vax"):
        perf.Ring(0, 4096)


@pytest.mark.root
def test_a_cpu_that_is_not_there() -> None:
    with pytest.raises(OSError, match="no event ring on CPU 4000"):
        perf.Ring(4000, 4096)
    with pytest.raises(ValueError, match="a power of two"):
        perf.Ring(0, 12_345)


def syn(number: int) -> bytes:
    ethernet = bytes(12) + b"\x08\x00"
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, b"\x0a\1\0\1", b"\x0a\1\0\2")
    tcp = struct.pack("!HHIIBBHHH", number, 80, 0, 0, 0x50, 2, 1000, 0, 0)
    return ethernet + ip + tcp + bytes(10)


@pytest.mark.bpf
def test_a_real_ring_wraps_fills_up_and_accounts() -> None:
    """Runs the probe on made-up SYNs, each of which makes an event; nothing is attached."""
    with loader.load("core", only=["flow_ingress", "flow_egress"]) as probes:
        reader = RingReader(probes.maps["events"], EVENT.dtype, ring_bytes=4096)

        def stat(index: int) -> int:
            counts = bpf.lookup_percpu(probes.maps["stats"], 0, CPU_STATS.dtype)["counts"]
            return int(counts["packets"][:, index].sum())

        def run(ports: range) -> list[int]:
            for port in ports:
                bpf.test_run(probes.programs["flow_ingress"], syn(port))
            found = reader.read()
            return [p for events in found for p in events["key"]["port_a"].tolist()]

        got: list[int] = []
        for start in range(1000, 1200, 20):  # 200 events of 128 bytes: six times round
            got += run(range(start, start + 20))
        assert sorted(got) == list(range(1000, 1200))

        overfull = run(range(2000, 2200))
        assert 0 < len(overfull) < 200
        index = {name: number for name, (number, _) in STATS.items()}
        assert stat(index["STAT_EVENT_SENT"]) == len(got) + len(overfull)
        assert stat(index["STAT_OPEN_LATE"]) == 200 - len(overfull)  # the drain tells of those
        assert stat(index["STAT_EVENT_LOST"]) == 0
        assert reader.read() == []
        assert len(run(range(3000, 3010))) == 10  # it goes on after a loss
        assert reader.take_odd() == 0
        reader.close()


@pytest.mark.bpf
@pytest.mark.skipif(len(perf.online_cpus()) < 2, reason="there is one CPU only")
def test_a_cpu_that_comes_gets_a_ring_and_one_that_goes_loses_nothing() -> None:
    with loader.load("core", flow_entries=100) as probes:
        reader = RingReader(probes.maps["events"], EVENT.dtype, cpus=[0])
        mine = os.sched_getaffinity(0)

        def run(cpu: int, port: int) -> None:
            os.sched_setaffinity(0, {cpu})
            bpf.test_run(probes.programs["flow_ingress"], syn(port))

        def told() -> list[int]:
            return [p for events in reader.read() for p in events["key"]["port_a"].tolist()]

        try:
            run(1, 1001)
            assert told() == []
            counts = bpf.lookup_percpu(probes.maps["stats"], 0, CPU_STATS.dtype)["counts"]
            assert counts["packets"][:, STATS["STAT_OPEN_LATE"][0]].sum() == 1
            (new,) = reader.follow([0, 1])
            assert new in reader.filenos and reader.follow([0, 1]) == []
            run(1, 1002)
            assert told() == [1002]
            run(0, 1003)
            assert reader.follow([1]) == [] and reader.filenos == [new]
            assert told() == [1003]
            run(0, 1004)  # into a ring that is not there any more
            assert told() == []
        finally:
            os.sched_setaffinity(0, mine)
            reader.close()


@pytest.mark.bpf
def test_a_ring_that_stands_still_is_replaced() -> None:
    """As after a CPU that went and came back between two looks: nothing can be written any more."""
    disable = 0x2401  # PERF_EVENT_IOC_DISABLE
    with loader.load("core", flow_entries=100) as probes:
        reader = RingReader(probes.maps["events"], EVENT.dtype, cpus=[0])
        mine = os.sched_getaffinity(0)

        def told(port: int) -> list[int]:
            bpf.test_run(probes.programs["flow_ingress"], syn(port))
            return [p for events in reader.read() for p in events["key"]["port_a"].tolist()]

        try:
            os.sched_setaffinity(0, {0})
            (old,) = reader.filenos
            assert reader.follow([0], losing=True) == reader.follow([0], losing=True) == []
            assert told(1001) == [1001]
            fcntl.ioctl(old, disable, 0)
            assert told(1002) == []
            assert reader.follow([0]) == []
            assert reader.follow([0], losing=True) == []
            (new,) = reader.follow([0], losing=True)
            assert reader.filenos == [new]
            assert told(1003) == [1003]
        finally:
            os.sched_setaffinity(0, mine)
            reader.close()


@pytest.mark.bpf
def test_impossible_positions_are_skipped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with loader.load("core", only=["flow_ingress", "flow_egress"]) as probes:
        reader = RingReader(probes.maps["events"], EVENT.dtype, ring_bytes=4096, cpus=[0])
        monkeypatch.setattr(perf.Ring, "positions", lambda self: (0, 1 << 30))
        monkeypatch.setattr(perf.Ring, "consume", lambda self, position: None)
        assert reader.read() == []
        assert reader.take_odd() == 1
        assert reader.take_odd() == 0
        reader.close()


def test_a_map_that_refuses_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []

    class FakeRing:
        def __init__(self, cpu: int, ring_bytes: int) -> None:
            self.fd = cpu

        def close(self) -> None:
            closed.append(self.fd)

    def refuse(*_: object) -> None:
        raise bpf.BpfError(9, "map update failed: Bad file descriptor")

    monkeypatch.setattr(ring.perf, "Ring", FakeRing)
    monkeypatch.setattr(bpf, "update", refuse)
    with pytest.raises(bpf.BpfError):
        RingReader(-1, RECORD, cpus=[3])
    assert closed == [3]
