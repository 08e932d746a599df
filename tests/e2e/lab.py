"""Two pods on a bridge in a node namespace, and the real agent and relay watching them.

Everything lives in namespaces that the lab makes and deletes: the machine's own interfaces are
left alone.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MAC = {"a": "02:99:00:00:00:01", "b": "02:99:00:00:00:02"}
V4 = {"a": "10.99.0.1", "b": "10.99.0.2"}
V6 = {"a": "fd00:99::1", "b": "fd00:99::2"}
OF_ANYBODY = {"held_full", "retransmits_full", "interrupted"}
"""Why something was lost that may be another lab's: TCP's and drops' hooks are the machine's."""

INVENTORY = """\
cluster: lab
pods:
  - namespace: lab
    name: a-0
    addresses: [10.99.0.1, "fd00:99::1"]
    workload: {kind: Deployment, name: a}
  - namespace: lab
    name: b-0
    addresses: [10.99.0.2, "fd00:99::2"]
    workload: {kind: Deployment, name: b}
"""


def run(*command: str, check: bool = True, timeout: float = 60) -> str:
    """Run a command to its end and give its output.

    Raises AssertionError with the output where it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class Lab:
    """The namespaces.

    ``node`` holds the bridge and the host-side veths ``va`` and ``vb``; ``a`` and ``b`` are pods.
    """

    def __init__(self) -> None:
        self.prefix = f"fo{os.getpid()}{time.monotonic_ns() % 1000}"
        self.processes: list[subprocess.Popen[str]] = []

    def ns(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def exec(self, name: str, *command: str, **kw: Any) -> str:
        return run("ip", "netns", "exec", self.ns(name), *command, **kw)

    def start(self, name: str, *command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.ns(name), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def ip(self, name: str, command: str) -> None:
        """An ``ip`` command in one of the namespaces."""
        run("ip", "-n", self.ns(name), *command.split())

    def __enter__(self) -> Lab:
        for name in ("node", "a", "b"):
            run("ip", "netns", "add", self.ns(name))
            self.ip(name, "link set lo up")
        self.ip("node", "link add br0 type bridge mcast_snooping 0 stp_state 0")
        self.ip("node", "link set br0 addrgenmode none")
        self.ip("node", "link set br0 up")
        # Where the kernel has br_netfilter, a bridge drops frames that are no proper IP.
        for family in ("ip", "ip6"):
            knob = f"net.bridge.bridge-nf-call-{family}tables=0"
            self.exec("node", "sysctl", "-q", "-w", knob, check=False)
        for pod, other in (("a", "b"), ("b", "a")):
            self.ip("node", f"link add v{pod} type veth peer name eth0 netns {self.ns(pod)}")
            self.ip("node", f"link set v{pod} addrgenmode none")
            self.ip("node", f"link set v{pod} master br0 up")
            self.ip(pod, "link set eth0 addrgenmode none")
            self.ip(pod, f"link set eth0 address {MAC[pod]}")
            self.ip(pod, "link set eth0 up")
            self.ip(pod, f"addr add {V4[pod]}/24 dev eth0")
            self.ip(pod, f"addr add {V6[pod]}/64 dev eth0 nodad")
            # no ARP, no neighbour discovery: only what a test sends
            for address in (V4[other], V6[other]):
                self.ip(pod, f"neigh replace {address} lladdr {MAC[other]} dev eth0 nud permanent")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        for name in ("a", "b", "node"):
            run("ip", "netns", "del", self.ns(name), check=False)

    def server(self, address: str, port: int) -> None:
        """Start the traffic server in pod b and wait until it listens."""
        process = self.start(
            "b", sys.executable, str(HERE / "traffic.py"), "server", address, str(port)
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def client(
        self,
        address: str,
        port: int,
        count: int,
        up: int = 100,
        down: int = 200,
        parallel: int = 20,
    ) -> None:
        """Make ``count`` connections from pod a; every one must succeed."""
        words = map(str, (address, port, count, up, down, parallel))
        out = self.exec(
            "a", sys.executable, str(HERE / "traffic.py"), "client", *words, timeout=120
        )
        assert out == f"done {count} failed 0\n", out

    def counters(self, interface: str, name: str = "node") -> dict[str, int]:
        """An interface's own counters: rx_packets, rx_bytes, tx_packets, tx_bytes."""
        (link,) = json.loads(run("ip", "-n", self.ns(name), "-s", "-j", "link", "show", interface))
        stats = link["stats64"]
        return {
            f"{side}_{unit}": stats[side][unit]
            for side in ("rx", "tx")
            for unit in ("packets", "bytes")
        }

    def moved(self) -> str:
        """What passed the node's interfaces so far, to be compared."""
        return run("ip", "-n", self.ns("node"), "-s", "link")


def free_port() -> int:
    """Not one of those that the kernel gives to clients: it may be taken a moment later."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def metrics(url: str) -> Callable[[str], float]:
    """A /metrics page: gives the sum over a metric's series."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()

    def total(name: str) -> float:
        return sum(
            float(x.rsplit(" ", 1)[1]) for x in lines if x.startswith((f"{name} ", f"{name}{{"))
        )

    return total


class Stack:
    """A relay and an agent as processes. ``rows(**parameters)`` asks the relay's history."""

    def __init__(
        self,
        lab: Lab,
        *,
        loader: str = "auto",
        drain_interval: float = 0.25,
        agent_options: tuple[str, ...] = (),
        relay_options: tuple[str, ...] = (),
    ) -> None:
        self.lab, self.loader, self.drain_interval = lab, loader, drain_interval
        self.agent_options, self.relay_options = agent_options, relay_options
        self.folder = tempfile.TemporaryDirectory(prefix="flowobs-e2e-")
        self.path = Path(self.folder.name)
        self.http, self.metrics = free_port(), free_port()
        self.relay: subprocess.Popen[bytes] | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self._settled: tuple[int, str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def agent_url(self) -> str:
        return f"http://127.0.0.1:{self.metrics}"

    def _spawn(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.path / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *command], stdout=log, stderr=log, cwd=self.path
            )

    def log(self, name: str) -> str:
        path = self.path / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start_relay(self, *, wait: bool = True) -> None:
        self.relay = self._spawn(
            "relay",
            "relay",
            "--listen",
            f"unix://{self.path}/relay.sock",
            "--http",
            f"127.0.0.1:{self.http}",
            "--store",
            f"chdb://{self.path}/store",
            *self.relay_options,
        )
        if wait:
            self.wait(lambda: self._up(self.url), "relay")

    def start_agent(self) -> None:
        (self.path / "inventory.yaml").write_text(INVENTORY)
        self.agent = self._spawn(
            "agent",
            "flowobs",
            "agent",
            "--relay",
            f"unix://{self.path}/relay.sock",
            "--netns",
            self.lab.ns("node"),
            "--loader",
            self.loader,
            "--drain-interval",
            str(self.drain_interval),
            "--node",
            "lab-node",
            "--metrics",
            f"127.0.0.1:{self.metrics}",
            "--inventory",
            str(self.path / "inventory.yaml"),
            *self.agent_options,
        )
        self.wait(lambda: self._up(self.url), "relay")
        self.wait(lambda: self._up(self.agent_url), "agent")
        self.wait(
            lambda: any(a["connected"] for a in self.get("/api/v1/status")["agents"]), "agent"
        )

    @staticmethod
    def _up(url: str) -> bool:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait(self, true: Any, name: str, timeout: float = 100) -> None:
        """Wait until ``true()``.

        Fails with the log of process ``name`` where that does not come.
        """
        end = time.monotonic() + timeout
        while not true():
            process = self.relay if name == "relay" else self.agent
            assert process is None or process.poll() is None, f"{name} ended: {self.log(name)}"
            assert time.monotonic() < end, f"{name} is not ready: {self.log(name)}"
            time.sleep(0.1)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def rows(self, *, last: int = 100_000, **parameters: str | int) -> list[dict[str, Any]]:
        """The last records; of what may be another lab's loss, which is part of every answer, only
        those of ``kind="lost"``.
        """
        query = "&".join(f"{k}={v}" for k, v in ({"last": 100_000} | parameters).items())
        flows: list[dict[str, Any]] = self.get(f"/api/v1/flows?{query}")["flows"]
        if parameters.get("kind") != "lost":
            flows = [r for r in flows if r["kind"] != "lost" or r["drop_reason"] not in OF_ANYBODY]
        return flows[-last:]

    def without_room(self) -> int:
        """Events so far that nobody could be told of; of any lab."""
        return sum(r["lost"] for r in self.rows(kind="lost") if r["drop_reason"] in OF_ANYBODY)

    def stored(self) -> int:
        """Records in the store."""
        rows: int = self.get("/api/v1/status")["store"]["rows"]
        return rows

    def settle(self) -> None:
        """Wait until everything the kernel counted so far is in the store: until three drains
        brought nothing, and the relay has stored all that the agent had.
        """
        began = changed = time.monotonic()
        last, drains, moved = (-1.0, -1.0), 0.0, ""
        while True:
            told = metrics(self.agent_url)
            now, drained = time.monotonic(), told("flowobs_agent_drain_seconds_count")
            known = (
                told("flowobs_agent_records_received_total"),
                told("flowobs_agent_identity_held"),
            )
            if known != last:
                last, drains, changed, moved = known, drained, now, self.lab.moved()
            # what was held back for a name comes up to two seconds later
            over = drained >= drains + 3 and (not known[1] or now > changed + 2.5)
            if over and not told("flowobs_agent_spool_bytes"):
                self._settled = self.stored(), moved
                return
            assert now < began + 90, "there is no end of records"
            time.sleep(0.1)

    @contextmanager
    def held_back(self, address: str, to: str) -> Iterator[None]:
        """Pings from ``address`` in pod a: in the block records wait for its name, afterwards some
        have got it.
        """
        names = ("flowobs_agent_identity_held", "flowobs_agent_identity_held_named")
        held, named = (self.metric(self.agent_url, name) for name in names)
        pings = self.lab.start("a", "ping", "-i", "0.2", "-I", address, to)
        self.wait(lambda: self.metric(self.agent_url, names[0]) > held, "agent")
        yield
        self.wait(lambda: self.metric(self.agent_url, names[1]) > named, "agent")
        pings.terminate()
        pings.wait()

    def new_interval(self) -> None:
        """Wait until what comes now is in no drain with what came before."""
        drains = "flowobs_agent_drain_seconds_count"
        before = self.metric(self.agent_url, drains)
        self.wait(lambda: self.metric(self.agent_url, drains) >= before + 2, "agent")

    def settled(self) -> bool:
        """Nothing was sent and nothing was stored since the last ``settle``."""
        return (self.stored(), self.lab.moved()) == self._settled

    def metric(self, url: str, name: str) -> float:
        """Sum over a metric's series on a /metrics page."""
        return metrics(url)(name)

    def stop(self) -> None:
        for process in (self.agent, self.relay):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.folder.cleanup()


@contextmanager
def stack(lab: Lab, **options: Any) -> Iterator[Stack]:
    """A running relay and agent on ``lab``, stopped at the end."""
    made = Stack(lab, **options)
    try:
        # at once; but an agent asks for names when it starts, and the relay may have some
        made.start_relay(wait=bool(made.relay_options))
        made.start_agent()
        yield made
    finally:
        made.stop()
