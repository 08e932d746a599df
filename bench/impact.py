"""What an application notices of the agent: requests by way of a proxy, with the agent on and off.

Client and web server are pod a, the proxy is pod b: each request crosses the node's interfaces four
times each way. The relay runs on the same cores, in both halves of a pair.
"""

from __future__ import annotations

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


def _cpu(lab: Lab) -> float:
    """CPU seconds of clients that have ended and of the nginx workers."""
    mine = resource.getrusage(resource.RUSAGE_CHILDREN)
    masters = (process.pid for process in lab.processes)
    workers = [w for m in masters for w in Path(f"/proc/{m}/task/{m}/children").read_text().split()]
    return mine.ru_utime + mine.ru_stime + sum(cpu_seconds(int(pid)) for pid in workers)


def _load(lab: Lab, client: Path, port: int) -> Load:
    words = (str(client), V4["b"], str(port), str(CONNECTIONS), str(SECONDS))
    before = _cpu(lab)
    rate, p99 = map(float, lab.exec("a", *words).split())
    return Load(rate, p99, (_cpu(lab) - before) / (rate * SECONDS))


def _stop_agent(flowobs: Stack) -> None:
    assert flowobs.agent is not None
    flowobs.agent.send_signal(signal.SIGTERM)
    flowobs.agent.wait(20)


def _pairs(lab: Lab, flowobs: Stack, client: Path) -> dict[int, list[Load]]:
    """Ratios on/off by port; which half comes first takes turns."""
    ratios: dict[int, list[Load]] = {KEPT: [], NEW: []}
    for number in range(PAIRS):
        taken: dict[tuple[bool, int], Load] = {}
        for on in (number % 2 == 0, number % 2 != 0):
            if on:
                flowobs.start_agent()
            time.sleep(1)
            for port in ratios:
                taken[on, port] = _load(lab, client, port)
            if on:
                _stop_agent(flowobs)
        for port, found in ratios.items():
            pair = zip(taken[True, port], taken[False, port], strict=True)
            found.append(Load(*(on / off for on, off in pair)))
    return ratios


def run() -> list[dict[str, object]]:
    """Needs root, nginx and clang: makes its own namespaces. Medians of pairs."""
    with tempfile.TemporaryDirectory() as name, Lab() as lab:
        folder = Path(name)
        client = folder / "requests"
        source = Path(__file__).parent / "requests.c"
        subprocess.run(["clang", "-O2", "-pthread", str(source), "-o", str(client)], check=True)
        folder.chmod(0o755)
        _nginx(lab, folder, "a", "backend", BACKEND)
        _nginx(lab, folder, "b", "proxy", PROXY.format(a=V4["a"], kept=KEPT, new=NEW))
        time.sleep(1)
        flowobs = Stack(lab)
        try:
            flowobs.start_relay()
            for port in (KEPT, NEW):
                _load(lab, client, port)  # everything is warm
            ratios = _pairs(lab, flowobs, client)
        finally:
            flowobs.stop()
    return [
        {
            "bench": "impact",
            "metric": f"{metric}_ratio{suffix}",
            "value": (value := statistics.median(getattr(pair, metric) for pair in ratios[port])),
            "unit": "",
            "against": "the same without agent",
            "ratio": value,
        }
        for port, suffix in ((KEPT, ""), (NEW, "_new_connections"))
        for metric in Load._fields
    ]
