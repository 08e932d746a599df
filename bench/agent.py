"""What the agent costs in user space: CPU for known flows and for records, memory.

Kernel time per packet is the bench ``kernel``. One interface is observed.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.lab import Lab, Stack, stack
from tests.e2e.test_light import cpu_seconds, resident_mb

FLOOD = Path(__file__).parent.parent / "tests" / "truth" / "flood.c"
IDLE_SECONDS = 10
PACKETS, RATE = 1_000_000, 100_000
FLOWS, FLOW_ROUNDS = 100_000, 3

LIMITS = {
    "cpu_s_per_mpkt_known": 0.1,
    "cpu_s_per_100k_records": 0.1,
    "rss_idle_mb": 80.0,
    "rss_100k_flows_mb": 150.0,
}


@contextmanager
def _flood() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/flood"
        subprocess.run(["clang", "-O2", str(FLOOD), "-o", made], check=True)
        yield made


def _spent(flowobs: Stack, idle_cpu: float, lab: Lab, *command: str) -> float:
    """The agent's CPU seconds for ``command`` in pod a and all that follows, over idle."""
    assert flowobs.agent is not None
    before, began = cpu_seconds(flowobs.agent.pid), time.monotonic()
    lab.exec("a", *command, timeout=120)
    rows = -1
    while rows != (rows := flowobs.stored()):  # the relay is asked: an answer would be the agent's
        time.sleep(3)
    used = cpu_seconds(flowobs.agent.pid) - before - idle_cpu * (time.monotonic() - began)
    flowobs.settle()
    return max(0.0, used)


def run() -> list[dict[str, object]]:
    """Needs root and clang: makes its own namespaces."""
    values: dict[str, float] = {}
    options = ("--flow-entries", str(2 * FLOWS), "--interface", "va")
    with (
        _flood() as flood,
        Lab() as lab,
        stack(lab, drain_interval=1, agent_options=options) as flowobs,
    ):
        assert flowobs.agent is not None
        pid = flowobs.agent.pid
        time.sleep(3)
        began, before = time.monotonic(), cpu_seconds(pid)
        time.sleep(IDLE_SECONDS)
        idle = (cpu_seconds(pid) - before) / (time.monotonic() - began)
        values["rss_idle_mb"] = resident_mb(pid)
        used = _spent(flowobs, idle, lab, flood, "udp", "eth0", "1", str(PACKETS), str(RATE))
        values["cpu_s_per_mpkt_known"] = used / (PACKETS / 1e6)

        rows = flowobs.get("/api/v1/status")["store"]["rows"]
        words = ("udp", "eth0", str(FLOWS), str(FLOW_ROUNDS), str(RATE))
        used = _spent(flowobs, idle, lab, flood, *words)
        made = flowobs.get("/api/v1/status")["store"]["rows"] - rows
        assert made >= 2 * FLOWS, f"{made} records of {FLOWS} flows"
        values["cpu_s_per_100k_records"] = used / (made / 1e5)
        values["rss_100k_flows_mb"] = resident_mb(pid)
    return [
        {
            "bench": "agent",
            "metric": name,
            "value": values[name],
            "unit": "MB" if name.endswith("_mb") else "s",
            "against": f"aim of {limit:g}",
            "ratio": values[name] / limit,
        }
        for name, limit in LIMITS.items()
    ]
