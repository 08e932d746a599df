"""Two request chains in pods, and their client.

As people run it: client -> gateway (nginx) -> web service (two of FastAPI on uvicorn) -> catalogue
(aiohttp, sqlite), connections kept. And ``hello``, which does next to nothing itself: nginx by way
of nginx, connections kept, or a new one for each request.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.e2e.lab import INVENTORY, V4, Lab, run

PODS = V4 | {"c": "10.99.0.3", "d": "10.99.0.4"}
CHAIN, KEPT, NEW = 8000, 8080, 8082
"""The gateway's port for each chain, in pod b."""
_CONNECTIONS = 16
_START_SECONDS = 30

_NGINX = """
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log stderr crit;
events {{ worker_connections 2048; }}
http {{
    access_log off; keepalive_requests 100000000;
    {temporary}
    {servers}
}}
"""
_HELLO = 'server { listen 8081; location / { return 200 "hello, this is the shop\\n"; } }'
_PASS = 'proxy_http_version 1.1; proxy_set_header Connection "";'
_GATEWAY = f"""
    upstream web {{
        server {PODS["c"]}:8001; server {PODS["c"]}:8002;
        keepalive 64; keepalive_requests 100000000; }}
    upstream kept {{ server {PODS["a"]}:8081; keepalive 64; keepalive_requests 100000000; }}
    upstream new {{ server {PODS["a"]}:8081; }}
    server {{ listen {CHAIN}; location / {{ proxy_pass http://web; {_PASS} }} }}
    server {{ listen {KEPT}; location / {{ proxy_pass http://kept; {_PASS} }} }}
    server {{ listen {NEW}; location / {{ proxy_pass http://new; }} }}
"""


class Load(NamedTuple):
    """What one run of the client saw."""

    times: NDArray[np.int64]
    """Shape (n, 2): microseconds, and how many requests took so long."""
    seconds: float
    cpu: float
    """seconds of client and services: with the hooks, without the agent's own"""

    @property
    def requests(self) -> int:
        return int(self.times[:, 1].sum())


class Chains:
    """Both chains in ``lab``, once ``start`` is through; what they need is kept in ``folder``."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab, self._folder = lab, folder
        self._client = folder / "requests"
        self._services: list[int] = []
        self.inventory = folder / "pods.yaml"

    def start(self) -> None:
        """Raises AssertionError where a service does not come up."""
        source = Path(__file__).parent / "requests.c"
        command = ["clang", "-O2", "-pthread", str(source), "-o", str(self._client), "-lm"]
        subprocess.run(command, check=True)
        self._folder.chmod(0o755)  # nginx's worker is nobody
        self.inventory.write_text(INVENTORY + "".join(map(_entry, "cd")))
        self._nginx("a", "hello", _HELLO)
        self._nginx("b", "gateway", _GATEWAY)
        python, here = sys.executable, "bench._chain"
        self._lab.start("d", python, "-m", f"{here}.catalogue", PODS["d"], "8001")
        catalogue = f"CATALOGUE=http://{PODS['d']}:8001"
        web = ("-m", "uvicorn", f"{here}.web:app", "--log-level", "warning", "--host", PODS["c"])
        for listen in ("8001", "8002"):
            self._lab.start("c", "env", catalogue, python, *web, "--port", listen)
        end = time.monotonic() + _START_SECONDS
        for port in (KEPT, NEW, CHAIN):
            # two connections: one for each web service
            while not self._ask(port, 0.1, 2, check=False):
                assert time.monotonic() < end, f"nothing answers at port {port}"
                time.sleep(0.1)
        self._services = [pid for p in self._lab.processes for pid in _family(p.pid)]

    def _nginx(self, pod: str, name: str, servers: str) -> None:
        folder = self._folder
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {folder}/{name}-{kind};" for kind in kinds)
        file = folder / f"{name}.conf"
        file.write_text(_NGINX.format(**locals()))
        self._lab.start(pod, "nginx", "-c", str(file), "-p", str(folder), "-e", "stderr")

    def load(self, port: int, seconds: float, rate: float = 0) -> Load:
        """One run of the client: ``rate`` requests a second, 0: as many as it can."""
        before = self._cpu()
        told = self._ask(port, seconds, _CONNECTIONS, *[str(rate)] * bool(rate)).splitlines()
        times = np.array([line.split() for line in told], np.int64)
        return Load(times, seconds, self._cpu() - before)

    def _ask(
        self, port: int, seconds: float, connections: int, *more: str, check: bool = True
    ) -> str:
        words = (str(self._client), PODS["b"], str(port), str(connections), str(seconds))
        return self._lab.exec("a", *words, *more, check=check)

    def _cpu(self) -> float:
        """CPU seconds of clients that have ended and of the services."""
        mine = resource.getrusage(resource.RUSAGE_CHILDREN)
        return mine.ru_utime + mine.ru_stime + run_seconds(self._services)


def run_seconds(pids: Iterable[int]) -> float:
    """CPU seconds of all threads that live, to the nanosecond."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _family(pid: int) -> Iterator[int]:
    """A process and its children."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _family(int(child))


def _entry(pod: str) -> str:
    return f"""\
  - namespace: lab
    name: {pod}-0
    addresses: [{PODS[pod]}]
    workload: {{kind: Deployment, name: {pod}}}
"""


@contextlib.contextmanager
def more_pods(lab: Lab) -> Iterator[None]:
    """Pods c and d beside the lab's a and b."""
    try:
        for pod in "cd":
            run("ip", "netns", "add", lab.ns(pod))
            lab.ip("node", f"link add v{pod} type veth peer name eth0 netns {lab.ns(pod)}")
            lab.ip("node", f"link set v{pod} addrgenmode none")
            lab.ip("node", f"link set v{pod} master br0 up")
            lab.ip(pod, "link set eth0 up")
            lab.ip(pod, f"addr add {PODS[pod]}/24 dev eth0")
        yield
    finally:
        for pod in "cd":
            run("ip", "netns", "del", lab.ns(pod), check=False)
