"""What the agent says about known traffic on the kernel it runs on: the same on every kernel.

Run as ``python -m tests.vm.conformance OUT LOADER...``: writes what ``unpack`` reads to OUT. Judges
nothing; that is for test_conformance.py. In namespaces of its own: works beside other traffic.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import platform
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from flowobs.agent import netns
from flowobs.agent.agent import Agent
from flowobs.agent.config import AgentConfig
from flowobs.agent.doctor import examine
from flowobs.agent.features import PROGRAMS
from flowobs.agent.forward import ForwardStats
from flowobs.agent.loader import Probes, bcc, load
from flowobs.agent.perf import KPROBES
from flowobs.batch import FlowBatch
from tests.e2e.lab import INVENTORY, MAC, V4, V6, Lab, run

PEERS = Path(__file__).with_name("peers.py")
NOBODY, NOWHERE = "10.99.0.77", "10.97.0.9"
"""Nobody has the one; to the other one the node has a blackhole route."""
CONNECTIONS, DATAGRAMS, PINGS = 10, 20, 3

STEPS = {
    "tcp4": ["tcp", V4["b"], CONNECTIONS],
    "tcp6": ["tcp", V6["b"], CONNECTIONS],
    "udp4": ["udp", V4["b"], DATAGRAMS],
    "udp6": ["udp", V6["b"], DATAGRAMS],
    "ping4": ["ping", V4["b"], PINGS],
    "ping6": ["ping", V6["b"], PINGS],
    "refused4": ["refused", V4["b"]],
    "refused6": ["refused", V6["b"]],
    "unheard4": ["unheard", V4["b"]],
    "reset4": ["reset", V4["b"]],
}
GATEWAY, GATEWAY_MAC = "10.99.0.254", "02:99:00:00:00:fe"
"""The node's own address: what asks for port 8080 there gets pod b, which sees the node."""
NAT = f"""\
table ip nat {{
chain there {{
type nat hook prerouting priority -100
ip daddr {GATEWAY} tcp dport 8080 dnat to {V4["b"]}
}}
chain back {{
type nat hook postrouting priority 100
ip daddr {V4["b"]} tcp dport 8080 masquerade
}}
}}"""
ADAPTED = ("tcp4", "tcp6", "udp4", "udp6", "refused4")
"""The steps that the adapters are tried with."""
_REFUSED = {p.name for p in PROGRAMS if p.kind == "cgroup"}
_TYPED = {p.name for p in PROGRAMS if p.kind in ("tp_btf", "fentry", "iter")}
TAKEN: dict[str, set[str]] = {
    "adapters": {"skb_drop"} | _REFUSED,
    "kprobes": _TYPED | _REFUSED,
    "bcc-kprobes": _REFUSED,
}
"""Runs where better programs are taken away, as old kernels would, and which those are."""
SECOND_CPU = Path("/sys/devices/system/cpu/cpu1/online")
LOOP_STEPS = {"loop4": ["tcp", "127.0.0.1", 5], "loop6": ["tcp", "::1", 5]}


class Device(NamedTuple):
    """A link of another kind on top of the pods' eth0. Not every kernel has every kind."""

    kind: str
    """In ip's words; ``{mine}`` and ``{other}`` are the pods' addresses."""
    addresses: dict[str, str]
    ethernet: bool = True


DEVICES = {
    "vlan": Device("link eth0 type vlan id 7", {"a": "10.98.7.1", "b": "10.98.7.2"}),
    "vxlan": Device(
        "type vxlan id 5 remote {other} dstport 4789", {"a": "10.98.5.1", "b": "10.98.5.2"}
    ),
    "geneve": Device("type geneve id 6 remote {other}", {"a": "10.98.6.1", "b": "10.98.6.2"}),
    "ipip": Device(
        "type ipip local {mine} remote {other}", {"a": "10.98.3.1", "b": "10.98.3.2"}, False
    ),
    "6in4": Device(
        "type sit local {mine} remote {other}", {"a": "fd98:4::1", "b": "fd98:4::2"}, False
    ),
    "gre": Device(
        "type gre local {mine} remote {other} key 9", {"a": "10.98.8.1", "b": "10.98.8.2"}, False
    ),
}
"""A name may not be that of a device which the kernel makes by itself (gre0, sit0 ...)."""
NODE, L3 = "10.99.0.100", Device("", {"node": "10.98.9.1", "b": "10.98.9.2"}, False)
"""A tunnel between the node and pod b: a link of the node itself whose packets have no link header.
"""


class Sink:
    """In the place of the forwarder: keeps the records."""

    stats = ForwardStats()
    spool_bytes = 0
    batch_interval = 0.05

    def __init__(self) -> None:
        self.batches: list[FlowBatch] = []

    def put(self, batch: FlowBatch) -> None:
        self.batches.append(batch)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def flush(self, seconds: float) -> None:
        pass


@functools.cache
def compiled() -> Probes:
    """BCC's, for all runs: in a virtual machine it compiles for half a minute."""
    return load("bcc")


def copy(probes: Probes) -> Probes:
    """With file descriptors of its own."""
    programs, maps = (
        {name: os.dup(fd) for name, fd in fds.items()} for fds in (probes.programs, probes.maps)
    )
    return Probes(probes.loader, programs, maps, dict(probes.missing))


class Recorder(Agent):
    """The agent, but its records stay here, and it does without the programs of ``taken``."""

    taken: Set[str] = frozenset()

    def _load_probes(self) -> Probes:
        probes = copy(compiled()) if self.config.loader == "bcc" else super()._load_probes()
        for name in self.taken & probes.programs.keys():
            os.close(probes.programs.pop(name))
            probes.missing[name] = "left out, as if this kernel did not have it"
        return probes

    @property
    def missing(self) -> dict[str, str]:
        """Programs that do not run, with the reason."""
        return self._attachments.missing

    def dropped(self) -> dict[str, float]:
        """Records lost on their way, by reason."""
        (metric,) = self.metrics.dropped.collect()
        return {s.labels["reason"]: s.value for s in metric.samples if s.name.endswith("_total")}

    @property
    def unresolved(self) -> int:
        """Connections whose opening was told before their translation was known."""
        return int(self.metrics.nat_unresolved._value.get())

    @property
    def out_of_scope(self) -> int:
        """Records of other namespaces that were left out."""
        return self._enricher.out_of_scope

    @property
    def idle(self) -> list[str]:
        """Programs that are not needed."""
        return self._attachments.idle

    def _make_forwarder(self) -> Any:
        self.sink = Sink()
        return self.sink


@contextmanager
def observing(lab: Lab, loader: str) -> Iterator[Recorder]:
    """The agent at work on the lab's node; its sink has everything afterwards.

    ``loader``: core, bcc, or one of ``TAKEN``.
    """
    taken = TAKEN.get(loader, set())
    bare = "bcc" if loader.startswith("bcc") else "core"
    inventory = Path(f"/tmp/{lab.prefix}.yaml")
    inventory.write_text(INVENTORY)
    config = AgentConfig(
        loader=bare,  # type: ignore[arg-type]
        cgroup="/tmp" if taken else "",
        node="lab-node",
        netns=lab.ns("node"),
        metrics="127.0.0.1:0",
        identity="host",
        inventory=inventory,
        drain_interval=0.5,
    )
    started, failed = threading.Event(), []
    agents: list[Recorder] = []

    async def work() -> None:
        agents.append(Recorder(config))
        agents[0].taken = taken
        await asyncio.to_thread(agents[0].start)
        running = asyncio.create_task(agents[0].run())
        await asyncio.sleep(0)
        started.set()
        await running

    def thread() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failed.append(error)
        finally:
            started.set()

    worker = threading.Thread(target=thread)
    worker.start()
    started.wait()
    try:
        if not failed:
            yield agents[0]
    finally:
        if agents:
            agents[0].stop_soon()
        worker.join()
        inventory.unlink()
    if failed:
        raise failed[0]


def peer(lab: Lab, pod: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of peers.py, ready."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", lab.ns(pod), sys.executable, "-I", str(PEERS), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    lab.processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(client: subprocess.Popen[str]) -> dict[str, list[int]]:
    """Let a client do its steps."""
    out, _ = client.communicate("go\n", timeout=200)
    assert client.returncode == 0
    made: dict[str, list[int]] = json.loads(out)
    return made


def silence(knob: Path) -> None:
    if knob.exists():
        knob.write_text("0")


def hush(lab: Lab) -> None:
    """No router solicitations: a packet at any time would be in the counters or not by chance."""
    for pod in ("a", "b"):
        for name in ("eth0", *DEVICES):
            knob = Path("/proc/sys/net/ipv6/conf", name, "accept_ra")
            netns.call(f"/run/netns/{lab.ns(pod)}", functools.partial(silence, knob))


def make_device(lab: Lab, name: str, device: Device) -> str:
    """One in each pod, called ``name``; why not, where this kernel has none."""
    for pod, other in (("a", "b"), ("b", "a")):
        try:
            kind = device.kind.format(mine=V4[pod], other=V4[other])
            lab.ip(pod, f"link add name {name} {kind}")
        except AssertionError as refused:
            return str(refused).rpartition("Error: ")[2].strip()
        lab.ip(pod, f"link set {name} addrgenmode none")
        if device.ethernet:
            lab.ip(pod, f"link set {name} address {MAC[pod]}")
        lab.ip(pod, f"link set {name} up")
        prefix = "64 dev {} nodad" if ":" in device.addresses[pod] else "24 dev {}"
        lab.ip(pod, f"addr add {device.addresses[pod]}/{prefix.format(name)}")
        if not device.ethernet:
            continue
        neighbour = f"{device.addresses[other]} lladdr {MAC[other]} dev {name}"
        lab.ip(pod, f"neigh replace {neighbour} nud permanent")
    return ""


def make_nat(lab: Lab) -> None:
    """The node translates. Nobody asks for a neighbour: that would be in the counters."""
    lab.ip("node", f"link set br0 address {GATEWAY_MAC}")
    lab.ip("node", f"addr add {GATEWAY}/24 dev br0")
    for pod in ("a", "b"):
        lab.ip("node", f"neigh replace {V4[pod]} lladdr {MAC[pod]} dev br0 nud permanent")
        lab.ip(pod, f"neigh replace {GATEWAY} lladdr {GATEWAY_MAC} dev eth0 nud permanent")
    for knob in ("ip_forward", "conf/all/send_redirects", "conf/br0/send_redirects"):
        write = functools.partial(
            Path("/proc/sys/net/ipv4", knob).write_text, str(int(knob == "ip_forward"))
        )
        netns.call(f"/run/netns/{lab.ns('node')}", write)
    lab.exec("node", "nft", NAT)
    lab.ip("a", f"route add {NOWHERE} via {GATEWAY}")
    lab.ip("node", f"route add blackhole {NOWHERE}")


def make_l3(lab: Lab) -> str:
    """``l3`` in the node and in pod b; why not, where this kernel has none."""
    lab.ip("node", f"addr add {NODE}/24 dev br0")
    lab.ip("node", f"neigh replace {V4['b']} lladdr {MAC['b']} dev br0 nud permanent")
    (bridge,) = json.loads(run("ip", "-n", lab.ns("node"), "-j", "link", "show", "br0"))
    lab.ip("b", f"neigh replace {NODE} lladdr {bridge['address']} dev eth0 nud permanent")
    for name, mine, other in (("node", NODE, V4["b"]), ("b", V4["b"], NODE)):
        try:
            lab.ip(name, f"link add name l3 type ipip local {mine} remote {other}")
        except AssertionError as refused:
            return str(refused).rpartition("Error: ")[2].strip()
        lab.ip(name, "link set l3 addrgenmode none")
        lab.ip(name, "link set l3 up")
        lab.ip(name, f"addr add {L3.addresses[name]}/24 dev l3")
    return ""


def counters(lab: Lab) -> dict[str, dict[str, int]]:
    (links,) = (json.loads(run("ip", "-n", lab.ns("node"), "-j", "link", "show")),)
    names = {link["ifname"] for link in links} & {"va", "vb", "l3"}
    return {name: lab.counters(name) for name in names}


def quiet(lab: Lab) -> dict[str, dict[str, int]]:
    """The counters once nothing is sent any more: new IPv6 addresses are announced for 2 s."""
    before = counters(lab)
    while True:
        time.sleep(1.2)
        if (now := counters(lab)) == before:
            return now
        before = now


def observe(
    lab: Lab, loader: str, servers: dict[str, int], plan: dict[str, Any], node_steps: dict[str, Any]
) -> dict[str, Any]:
    """Traffic between the pods and in the node, and what an agent with this loader tells of it."""
    client = peer(lab, "a", "client", json.dumps(plan))
    loop = peer(lab, "node", "client", json.dumps({"steps": node_steps}))
    before = quiet(lab)
    with observing(lab, loader) as agent:
        ports = go(client) | go(loop)
        time.sleep(1.2)  # two drains: what goes on is told as it does
        after = counters(lab)
    return {
        "missing": agent.missing,
        "idle": agent.idle,
        "taken": sorted(agent.taken),
        "dropped": agent.dropped(),
        "unresolved": agent.unresolved,
        "out_of_scope": agent.out_of_scope,
        "ports": ports,
        "to": {name: step[1] for name, step in (plan["steps"] | node_steps).items()}
        | {"old": V4["b"], "silent": NOBODY, "nat4": V4["b"]},
        "pids": {**servers, "client": client.pid, "loop": loop.pid},
        "counters": {
            name: {key: after[name][key] - before[name][key] for key in after[name]}
            for name in after
        },
        "rows": [row for batch in agent.sink.batches for row in batch.rows()],
    }


def hotplug(lab: Lab) -> dict[str, Any]:
    """One of two CPUs goes and comes again and again under traffic; then it makes traffic itself.

    For a machine that is ours alone.
    """
    ports: list[int] = []
    waves: list[float] = []

    def start(count: int) -> subprocess.Popen[str]:
        steps = {"tcp4": ["tcp", V4["b"], count], "tcp6": ["tcp", V6["b"], count]}
        return peer(lab, "a", "client", json.dumps({"steps": steps}))

    def finish(client: subprocess.Popen[str]) -> None:
        out, _ = client.communicate(timeout=200)
        for made in json.loads(out).values():
            ports.extend(made)

    before = quiet(lab)
    with observing(lab, "core") as agent:
        client = start(200)
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
        turns = 0
        while client.poll() is None:
            SECOND_CPU.write_text("0")
            time.sleep(0.05)
            SECOND_CPU.write_text("1")
            turns += 1
            time.sleep(0.2)
        finish(client)
        while len(waves) < 6 and (not waves or waves[-1]):
            late = agent.metrics.ring_late._value.get()
            client = start(5)
            os.sched_setaffinity(client.pid, {1})
            client.stdin.write("go\n")
            finish(client)
            time.sleep(1.2)  # two drains
            waves.append(agent.metrics.ring_late._value.get() - late)
        after = counters(lab)
        dropped = agent.dropped()
    return {
        "turns": turns,
        "waves": waves,
        "dropped": dropped,
        "ports": ports,
        "to": [V4["b"], V6["b"]],
        "moved": {key: after["va"][key] - before["va"][key] for key in after["va"]},
        "rows": [row for batch in agent.sink.batches for row in batch.rows()],
    }


def main(loaders: list[str]) -> dict[str, Any]:
    """Everything, for JSON."""
    bcc.TIMEOUT_S = 300  # an emulated processor takes 30 times as long to compile
    runs: dict[str, Any] = {}
    with Lab() as lab:
        absent = {name: make_device(lab, name, device) for name, device in DEVICES.items()}
        steps = (
            STEPS
            | {"nat4": ["tcp", GATEWAY, CONNECTIONS], "nowhere4": ["lost", NOWHERE, DATAGRAMS]}
            | {
                name: ["tcp", DEVICES[name].addresses["b"], CONNECTIONS]
                for name, reason in absent.items()
                if not reason
            }
        )
        make_nat(lab)
        node_steps: dict[str, Any] = dict(LOOP_STEPS)
        absent["l3"] = make_l3(lab)
        if not absent["l3"]:
            node_steps["l3"] = ["tcp", L3.addresses["b"], CONNECTIONS]
        hush(lab)
        lab.ip("a", f"neigh replace {NOBODY} lladdr 02:99:00:00:00:77 dev eth0 nud permanent")
        # before any agent: their sockets can be known from the iterator only
        servers = {
            "server": peer(lab, "b", "server").pid,
            "loop_server": peer(lab, "node", "server").pid,
        }
        doctor = examine("core").as_dict()
        everything = {"old": V4["b"], "silent": NOBODY, "steps": steps}
        few = {"steps": {name: STEPS[name] for name in ADAPTED}}
        flickering = hotplug(lab) if "hotplug" in loaders else None
        for loader in loaders:
            if loader == "hotplug":
                continue
            if loader.endswith("kprobes") and not KPROBES.exists():
                continue
            started = time.monotonic()
            plan = few if loader in TAKEN else everything
            runs[loader] = observe(lab, loader, servers, plan, node_steps)
            runs[loader]["seconds"] = round(time.monotonic() - started, 1)
    return {
        "kernel": platform.release(),
        "absent": absent,
        "doctor": doctor,
        "runs": runs,
        "hotplug": flickering,
    }


def pack(found: dict[str, Any]) -> bytes:
    """As text, but short: a serial line takes 30 us for each byte in a virtual machine."""
    return base64.b64encode(zlib.compress(json.dumps(found).encode()))


def unpack(text: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(text)))
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(pack(main(sys.argv[2:])))
