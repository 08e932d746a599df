"""What an application notices of the agent: requests by way of a proxy, with the agent on and off.

Client and web server are pod a, the proxy is pod b: each request crosses the node's interfaces four
times each way. Two loads: half of what the machine can do, offered at random moments (``_half``),
and as much as it can. Two places of the relay: on the same cores, in both halves of a pair; and, as
in production, elsewhere (``_relay_elsewhere``): there it runs only while nobody wants the CPU.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab import V4, Lab, Stack
from tests.e2e.test_light import cpu_seconds

PAIRS, SECONDS, CONNECTIONS = 5, 3, 16
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
    """What one run of the client saw, or how one compares with another."""

    throughput: float
    """requests a second"""
    p99: float
    """microseconds"""
    cpu_per_request: float
    """seconds of client, proxy and server: with the hooks, without the agent's own"""


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
    done, p99 = map(float, lab.exec("a", *words, *[str(rate)] * bool(rate)).split())
    return Load(done, p99, (_cpu(lab) - before) / (done * SECONDS))


def _place(relay: int, policy: int) -> None:
    for task in Path(f"/proc/{relay}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # a thread that has ended meanwhile
            os.sched_setscheduler(int(task.name), policy, os.sched_param(0))


def _rest(relay: int) -> None:
    """Wait until the relay has done what the last load left it: at most 20 seconds."""
    for _ in range(20):
        before = cpu_seconds(relay)
        time.sleep(1)
        if cpu_seconds(relay) - before < 0.1:
            return


def _stop_agent(flowobs: Stack) -> None:
    assert flowobs.agent is not None
    flowobs.agent.send_signal(signal.SIGTERM)
    flowobs.agent.wait(20)


def _pairs(lab: Lab, flowobs: Stack, client: Path) -> tuple[dict[Case, list[Load]], list[float]]:
    """Ratios on/off, whose order takes turns; the agent's CPU seconds per new connection."""
    assert flowobs.relay is not None
    ratios: dict[Case, list[Load]] = {case: [] for case in CASES}
    spent: list[float] = []
    half = {port: _load(lab, client, port).throughput / 2 for port in SUFFIX}
    for number in range(PAIRS):
        taken: dict[tuple[bool, Case], Load] = {}
        for on in (number % 2 == 0, number % 2 != 0):
            if on:
                flowobs.start_agent()
            for case in CASES if on else ALONE:
                _place(flowobs.relay.pid, case.relay)
                _rest(flowobs.relay.pid)
                before = cpu_seconds(flowobs.agent.pid) if on and flowobs.agent else 0
                load = _load(lab, client, case.port, half[case.port] if case.half else 0)
                taken[on, case] = load
                if on and flowobs.agent and case == Case(NEW, True, os.SCHED_IDLE):
                    used = cpu_seconds(flowobs.agent.pid) - before
                    spent.append(used / (load.throughput * SECONDS))
            if on:
                _stop_agent(flowobs)
        for case, found in ratios.items():
            alone = taken[False, case._replace(relay=os.SCHED_OTHER)]
            pair = zip(taken[True, case], alone, strict=True)
            found.append(Load(*(on / off for on, off in pair)))
    return ratios, spent


def run() -> list[dict[str, object]]:
    """Needs root, nginx and clang: makes its own namespaces. Medians of pairs."""
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
            ratios, spent = _pairs(lab, flowobs, client)
        finally:
            flowobs.stop()
    figures: list[dict[str, object]] = [
        {
            "bench": "impact",
            "metric": f"{metric}_ratio{case}",
            "value": (value := statistics.median(found)),
            "unit": "",
            "against": f"the same without agent; pairs: {min(found):.3g} to {max(found):.3g}",
            "ratio": value,
        }
        for case in CASES
        for metric in Load._fields
        for found in [[getattr(pair, metric) for pair in ratios[case]]]
    ]
    agent = {"metric": "agent_us_per_new_connection", "value": 1e6 * statistics.median(spent)}
    against = "the agent's own CPU, at half load"
    figures.append({"bench": "impact"} | agent | {"unit": "us", "against": against, "ratio": None})
    return figures
