"""Too many flows or events, an agent that stands still: every packet is accounted for."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import OF_ANYBODY, Lab, Stack, stack
from tests.e2e.test_light import resident_mb

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow, pytest.mark.timeout(240)]

FRAME = 60
LINKS = 2  # a frame comes in by va and leaves by vb
UPDATES = ("update", "close")


@pytest.fixture(scope="module")
def flood(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled generator."""
    made = tmp_path_factory.mktemp("flood") / "flood"
    source = Path(__file__).parent / "flood.c"
    subprocess.run(["clang", "-O2", "-Wall", "-Werror", str(source), "-o", str(made)], check=True)
    return str(made)


def send(lab: Lab, flood: str, kind: str, flows: int, rounds: int, rate: int = 0) -> int:
    """Run the generator in pod a. Gives the frames that va got, which must be what it says."""
    before = lab.counters("va")["rx_packets"]
    words = (kind, "eth0", str(flows), str(rounds), *([str(rate)] if rate else []))
    said = int(lab.exec("a", flood, *words, timeout=120).split()[0])
    assert lab.counters("va")["rx_packets"] - before == said == flows * rounds
    return said


def quiet_bridge(lab: Lab) -> None:
    """Frames for the address that nobody has go to pod b only, which ignores them."""
    lab.exec("node", "bridge", "fdb", "add", "02:99:00:00:00:99", "dev", "vb", "master", "static")


def records(flowobs: Stack, *kinds: str) -> list[dict[str, Any]]:
    found = []
    for kind in kinds:
        rows = flowobs.rows(kind=kind)
        assert len(rows) < 100_000, "the API gives no more at once"
        found += rows
    return found


def totals(rows: list[dict[str, Any]]) -> tuple[int, int]:
    assert not any(r["reply_packets"] for r in rows)
    return sum(r["packets"] for r in rows), sum(r["bytes"] for r in rows)


def overflow(flowobs: Stack) -> list[dict[str, Any]]:
    return [r for r in records(flowobs, "lost") if r["drop_reason"] == "map_full"]


def opened(flowobs: Stack) -> Counter[tuple[Any, ...]]:
    """How often each flow was opened at each interface."""
    return Counter((r["interface"], r["src_ip"], r["src_port"]) for r in records(flowobs, "open"))


def pid(flowobs: Stack) -> int:
    assert flowobs.agent is not None
    return flowobs.agent.pid


def test_a_hundred_thousand_flows_in_a_map_of_five_thousand(flood: str) -> None:
    options = ("--flow-entries", "5000")
    with Lab() as lab, stack(lab, drain_interval=1, agent_options=options) as flowobs:
        quiet_bridge(lab)
        before = resident_mb(pid(flowobs))
        rounds = 3
        sent = send(lab, flood, "udp", 100_000, rounds, rate=75_000)
        flowobs.settle()
        flows, lost = records(flowobs, *UPDATES), overflow(flowobs)
        assert totals(lost)[0] > sent, "the map held it all: this proves nothing"
        both = [x + y for x, y in zip(totals(flows), totals(lost), strict=True)]
        assert both == [LINKS * sent, LINKS * sent * FRAME]
        assert {r["proto"] for r in lost} == {"udp"}
        assert all(r["lost"] == r["packets"] for r in lost)
        # what outlives a drain is forgotten, too, but never while packets of a round come in
        assert max(opened(flowobs).values()) <= rounds
        after = resident_mb(pid(flowobs))
        print(f"agent: {before:.0f} MB idle, {after:.0f} MB after; {len(flows)} records, "
              f"{totals(lost)[0] / LINKS / sent:.0%} of packets in the overflow")  # fmt: skip
        assert after < 120


def test_more_openings_than_the_ring_holds(flood: str) -> None:
    flows = 24_000  # 48,000 entries of 65,536
    with Lab() as lab, stack(lab, drain_interval=1) as flowobs:
        quiet_bridge(lab)
        os.kill(pid(flowobs), signal.SIGSTOP)
        try:
            sent = send(lab, flood, "syn", flows, 1)
            time.sleep(2)
        finally:
            os.kill(pid(flowobs), signal.SIGCONT)
        flowobs.settle()
        sent += send(lab, flood, "syn", flows, 1)  # known flows by now
        flowobs.settle()
        assert totals(records(flowobs, *UPDATES)) == (LINKS * sent, LINKS * sent * FRAME)
        assert flowobs.metric(flowobs.agent_url, "flowobs_agent_ring_late_total") > flows / 4
        assert {r["drop_reason"] for r in records(flowobs, "lost")} <= OF_ANYBODY
        opens = opened(flowobs)
        assert len(opens) == LINKS * flows, "flows without an opening"
        assert set(opens.values()) == {1}, "flows opened more than once"
        print(f"agent: {resident_mb(pid(flowobs)):.0f} MB after {LINKS * flows} openings")


def test_an_agent_that_stops_and_goes_on_under_traffic(flood: str) -> None:
    flows, rounds, rate = 2000, 150, 40_000
    with Lab() as lab, stack(lab, drain_interval=1) as flowobs:
        quiet_bridge(lab)
        words = ("udp", "eth0", str(flows), str(rounds), str(rate))
        sender = lab.start("a", flood, *words)
        for _ in range(4):
            time.sleep(0.3)
            os.kill(pid(flowobs), signal.SIGSTOP)
            time.sleep(1.1)
            os.kill(pid(flowobs), signal.SIGCONT)
        assert sender.poll() is None, "traffic ended before the agent stood still"
        sender.wait(120)
        flowobs.settle()
        sent = flows * rounds
        assert lab.counters("va")["rx_packets"] >= sent
        assert totals(records(flowobs, *UPDATES)) == (LINKS * sent, LINKS * sent * FRAME)
        assert {r["drop_reason"] for r in records(flowobs, "lost")} <= OF_ANYBODY
        opens = opened(flowobs)
        assert len(opens) == LINKS * flows and set(opens.values()) == {1}
        print(f"agent: {resident_mb(pid(flowobs)):.0f} MB after standing still for 4 s")
