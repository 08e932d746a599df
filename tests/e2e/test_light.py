"""An idle agent and relay cost next to nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.e2e.lab import Lab, stack

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]

SECONDS, TRIES = 10, 3
"""The agent hears of all sockets of the machine: others' tests may keep it busy for a while."""
MOST = 0.03
"""Of a core, both together."""


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_idle_cost() -> None:
    with Lab() as lab, stack(lab, drain_interval=1) as flowobs:
        assert flowobs.agent is not None and flowobs.relay is not None
        pids = flowobs.agent.pid, flowobs.relay.pid
        time.sleep(3)
        for _ in range(TRIES):
            before = [cpu_seconds(p) for p in pids]
            time.sleep(SECONDS)
            used = [after - b for after, b in zip(map(cpu_seconds, pids), before, strict=True)]
            memory = [resident_mb(p) for p in pids]
            for name, cpu, mb in zip(("agent", "relay"), used, memory, strict=True):
                print(f"idle {name}: {cpu / SECONDS:.2%} of a core, {mb:.0f} MB")
            if sum(used) / SECONDS < MOST:
                break
        assert sum(used) / SECONDS < MOST
        assert memory[0] < 80
