"""What an application notices of the agent: requests by way of a proxy, with the agent on and off.

Client and web server are pod a, the proxy is pod b: each request crosses the node's interfaces four
times each way. Two loads: half of what the machine can do, offered at random moments (``_half``),
and as much as it can. Two places of the relay: on the same cores, in both halves of a pair; and, as
in production, elsewhere (``_relay_elsewhere``): there it runs only while nobody wants the CPU.

Each round with the agent stands between two without it, which also tell what the machine does by
itself: they are compared with each other.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.e2e.lab import V4, Lab, Stack
from tests.e2e.test_light import cpu_seconds

ROUNDS, SECONDS, CONNECTIONS = 5, 3, 16
KEPT, NEW = 8080, 8082  # the proxy's connection to the server: kept open, or new for each request
SUFFIX = {KEPT: "", NEW: "_new_connections"}
PLACES = {os.SCHED_OTHER: "", os.SCHED_IDLE: "_relay_elsewhere"}

NGINX = """
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log stderr crit;
events {{ worker_connections 2048; }}
http {{
    access_log off; keepalive_requests 100000000;
    {temporary}
    {servers}
}}
"""
BACKEND = 'server { listen 8081; location / { return 200 "hello, this is the shop\\n"; } }'
PROXY = """
    upstream kept {{ server {a}:8081; keepalive 64; keepalive_requests 100000000; }}
    upstream new {{ server {a}:8081; }}
    server {{ listen {kept}; location / {{
        proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
    server {{ listen {new}; location / {{ proxy_pass http://new; }} }}
"""


def _nginx(lab: Lab, folder: Path, pod: str, name: str, servers: str) -> None:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{name}-{kind};" for kind in kinds)
    file = folder / f"{name}.conf"
    file.write_text(NGINX.format(folder=folder, name=name, temporary=temporary, servers=servers))
    lab.start(pod, "nginx", "-c", str(file), "-p", str(folder), "-e", "stderr")


class Load(NamedTuple):
    """What one run of the client saw."""

    times: NDArray[np.int64]
    """Shape (n, 2): microseconds, and how many requests took so long."""
    cpu: float
    """seconds of client, proxy and server: with the hooks, without the agent's own"""

    @property
    def throughput(self) -> float:
        """Requests a second."""
        return float(self.times[:, 1].sum() / SECONDS)

    @property
    def cpu_per_request(self) -> float:
        return self.cpu / (self.throughput * SECONDS)


def _p99(loads: Sequence[Load]) -> float:
    """Of the requests of all of them, microseconds: one bad second does not make it."""
    took, count = np.concatenate([load.times for load in loads]).T
    order = np.argsort(took)
    total = np.cumsum(count[order])
    return float(took[order][np.searchsorted(total, 0.99 * total[-1])])


class Case(NamedTuple):
    """What is compared: a name's suffix without the metric."""

    port: int
    half: bool
    relay: int
    """scheduling policy of the relay"""

    def __str__(self) -> str:
        return SUFFIX[self.port] + "_half" * self.half + PLACES[self.relay]


CASES = [Case(port, half, relay) for relay in PLACES for half in (False, True) for port in SUFFIX]
ALONE = [case for case in CASES if case.relay == os.SCHED_OTHER]  # without agent: it has no work


def _cpu(lab: Lab) -> float:
    """CPU seconds of clients that have ended and of the nginx workers."""
    mine = resource.getrusage(resource.RUSAGE_CHILDREN)
    masters = (process.pid for process in lab.processes)
    workers = [w for m in masters for w in Path(f"/proc/{m}/task/{m}/children").read_text().split()]
    return mine.ru_utime + mine.ru_stime + sum(cpu_seconds(int(pid)) for pid in workers)


def _load(lab: Lab, client: Path, port: int, rate: float = 0) -> Load:
    """One run of the client: ``rate`` requests a second, 0: as many as it can."""
    words = [str(client), V4["b"], str(port), str(CONNECTIONS), str(SECONDS)]
    before = _cpu(lab)
    told = lab.exec("a", *words, *[str(rate)] * bool(rate)).splitlines()
    return Load(np.array([line.split() for line in told], np.int64), _cpu(lab) - before)


def _place(relay: int, policy: int) -> None:
    for task in Path(f"/proc/{relay}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # a thread that has ended meanwhile
            os.sched_setscheduler(int(task.name), policy, os.sched_param(0))


def _rest(relay: int) -> None:
    """Wait until the relay has done what the last load left it: at most 20 seconds."""
    for _ in range(40):
        before = cpu_seconds(relay)
        time.sleep(0.5)
        if cpu_seconds(relay) - before < 0.05:
            return


def _stop_agent(flowobs: Stack) -> None:
    assert flowobs.agent is not None
    flowobs.agent.send_signal(signal.SIGTERM)
    flowobs.agent.wait(20)


def _rounds(
    lab: Lab, flowobs: Stack, client: Path
) -> tuple[dict[Case, list[Load]], dict[Case, list[Load]], list[float]]:
    """With the agent, without it (one round more); the agent's CPU seconds per new connection."""
    assert flowobs.relay is not None
    relay = flowobs.relay.pid
    with_agent: dict[Case, list[Load]] = {case: [] for case in CASES}
    alone: dict[Case, list[Load]] = {case: [] for case in ALONE}
    spent: list[float] = []
    half = {port: _load(lab, client, port).throughput / 2 for port in SUFFIX}
    for number in range(2 * ROUNDS + 1):
        on = number % 2 != 0
        _place(relay, os.SCHED_OTHER)
        _rest(relay)
        if on:
            flowobs.start_agent()
        for case, loads in (with_agent if on else alone).items():
            _place(relay, case.relay)
            if on:
                _rest(relay)
            before = cpu_seconds(flowobs.agent.pid) if on and flowobs.agent else 0
            loads.append(_load(lab, client, case.port, half[case.port] if case.half else 0))
            if on and flowobs.agent and case == Case(NEW, True, os.SCHED_IDLE):
                used = cpu_seconds(flowobs.agent.pid) - before
                spent.append(used / (loads[-1].throughput * SECONDS))
        if on:
            _stop_agent(flowobs)
    return with_agent, alone, spent


def _compared(on: Sequence[Load], off: Sequence[Load]) -> dict[str, tuple[float, list[float]]]:
    """By metric: ratio of with to without agent, and of the rounds without it to the next ones."""
    told: dict[str, tuple[float, list[float]]] = {}
    for metric in ("throughput", "cpu_per_request"):
        mine, others = ([getattr(load, metric) for load in loads] for loads in (on, off))
        beside = [math.sqrt(a * b) for a, b in pairwise(others)]
        ratio = statistics.median(a / b for a, b in zip(mine, beside, strict=True))
        told[metric] = ratio, [b / a for a, b in pairwise(others)]
    single = [_p99([load]) for load in off]
    told["p99"] = _p99(on) / _p99(off), [b / a for a, b in pairwise(single)]
    return told


def run() -> list[dict[str, object]]:
    """Needs root, nginx and clang: makes its own namespaces. Some five minutes."""
    with tempfile.TemporaryDirectory() as name, Lab() as lab:
        folder = Path(name)
        client = folder / "requests"
        source = Path(__file__).parent / "requests.c"
        command = ["clang", "-O2", "-pthread", str(source), "-o", str(client), "-lm"]
        subprocess.run(command, check=True)
        folder.chmod(0o755)
        _nginx(lab, folder, "a", "backend", BACKEND)
        _nginx(lab, folder, "b", "proxy", PROXY.format(a=V4["a"], kept=KEPT, new=NEW))
        time.sleep(1)
        flowobs = Stack(lab, drain_interval=1)
        try:
            flowobs.start_relay()
            for port in SUFFIX:
                _load(lab, client, port)  # everything is warm
            with_agent, alone, spent = _rounds(lab, flowobs, client)
        finally:
            flowobs.stop()
    figures: list[dict[str, object]] = [
        {
            "bench": "impact",
            "metric": f"{metric}_ratio{case}",
            "value": ratio,
            "unit": "",
            "against": f"without agent, itself {min(noise):.3g} to {max(noise):.3g} in turns",
            "ratio": ratio,
        }
        for case, loads in with_agent.items()
        for metric, (ratio, noise) in _compared(
            loads, alone[case._replace(relay=os.SCHED_OTHER)]
        ).items()
    ]
    agent = {"metric": "agent_us_per_new_connection", "value": 1e6 * statistics.median(spent)}
    against = "the agent's own CPU, at half load"
    figures.append({"bench": "impact"} | agent | {"unit": "us", "against": against, "ratio": None})
    return figures
