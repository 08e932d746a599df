"""When a flow's last packet was: exact where it matters, and at most a tick old elsewhere."""

from __future__ import annotations

import time

import pytest

from tests.probes.corpus import IPV4, TCP, UDP, ethernet, ipv4, tcp, udp
from tests.probes.kernel import Runner

pytestmark = [pytest.mark.root, pytest.mark.bpf]

COARSE = 6  # CLOCK_MONOTONIC_COARSE: the last tick


def query(way: int) -> bytes:
    return ethernet(ipv4(udp(b"x", way=way), UDP, way=way), IPV4)


def segment(flags: int) -> bytes:
    return ethernet(ipv4(tcp(flags), TCP), IPV4)


@pytest.mark.parametrize(
    ("before", "last"),
    [([], query(0)), ([query(0)], query(1)), ([segment(0x10)], segment(0x11))],
    ids=["first", "reply", "fin"],
)
def test_to_the_nanosecond(runner: Runner, before: list[bytes], last: bytes) -> None:
    for packet in before:
        runner.send([packet])
    start = time.monotonic_ns()
    runner.send([last])
    end = time.monotonic_ns()
    (flow,) = runner.flows()
    assert start < flow["last_ns"] < end
    assert flow["start_ns"] <= flow["last_ns"]


def test_to_a_tick_within_a_flow(runner: Runner) -> None:
    runner.send([query(0)] * 2)
    (flow,) = runner.flows()
    assert flow["last_ns"] >= flow["start_ns"]

    runner.send([query(0)])
    time.sleep(0.03)
    tick = time.clock_gettime_ns(COARSE)
    runner.send([query(0)])
    (flow,) = runner.flows()
    assert tick <= flow["last_ns"] <= time.monotonic_ns()
