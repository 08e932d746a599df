"""What one node's agent saw go, another's did not see come: the map says how much."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import V4, Lab, Stack, free_port, run, stack

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow, pytest.mark.timeout(180)]

NODE, FAR, GATEWAY, PORT = "192.0.2.1", "192.0.2.2", "10.99.0.254", 9999
SENT, EACH = 1000, 20
PODS = f"""\
pods:
  - {{namespace: lab, name: a-0, addresses: [{V4["a"]}]}}
"""
NODES = f"""\
nodes:
  - {{name: lab-node, addresses: [{NODE}]}}
  - {{name: far-node, addresses: [{FAR}]}}
"""
SEND = f"""
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range({SENT}):
    s.sendto(b"x" * 100, ("{FAR}", {PORT}))
    time.sleep((n % 50 == 0) / 100)  # no queue on the way gets full
"""
RULES = (
    "add table bridge path; add chain bridge path on { type filter hook forward priority 0; };"
    f"add rule bridge path on udp dport {PORT} numgen inc mod {EACH} == 0 counter drop"
)


TOLD = {
    "sent_packets": SENT,
    "arrived_packets": SENT - SENT // EACH,
    "reply_sent_packets": 0,
    "reply_arrived_packets": 0,
    "path_loss": SENT // EACH,
}


@pytest.mark.parametrize("named", [NODES, ""], ids=["named", "nameless"])
def test_the_map_tells_what_was_lost_between_two_nodes(tmp_path: Path, named: str) -> None:
    """Their uplinks are veths: of nodes that are containers themselves, not of pods."""
    inventory = ("--inventory", str(tmp_path / "inventory.yaml"))
    (tmp_path / "inventory.yaml").write_text(named + PODS)
    with Lab() as lab:
        try:
            second_node(lab)
            with stack(lab, agent_options=inventory) as flowobs:
                agent = far_agent(flowobs, *inventory)
                try:
                    lab.exec("a", "ping", "-c", "1", FAR)  # neighbours are known
                    lab.exec("a", sys.executable, "-c", SEND)
                    with suppress(AssertionError):  # the comparison says more
                        flowobs.wait(lambda: told(flowobs) == TOLD, "relay")
                    assert told(flowobs) == TOLD
                finally:
                    agent.terminate()
                    agent.wait()
        finally:
            for name in ("far", "wire"):
                run("ip", "netns", "del", lab.ns(name), check=False)


def second_node(lab: Lab) -> None:
    """``far``, behind uplinks and a ``wire``; one of ``EACH`` packets does not get there."""
    for name in ("far", "wire"):
        run("ip", "netns", "add", lab.ns(name))
    lab.ip("far", "link set lo up")
    lab.ip("wire", "link add br0 type bridge mcast_snooping 0 stp_state 0")
    lab.ip("wire", "link set br0 up")
    for name, link, address in (("node", "up0", NODE), ("far", "eth0", FAR)):
        lab.ip(name, f"link add {link} type veth peer name to-{name} netns {lab.ns('wire')}")
        lab.ip("wire", f"link set to-{name} master br0 up")
        lab.ip(name, f"addr add {address}/24 dev {link}")
        lab.ip(name, f"link set {link} up")
    lab.ip("node", f"addr add {GATEWAY}/24 dev br0")
    lab.ip("a", f"route add default via {GATEWAY}")
    lab.ip("far", f"route add 10.99.0.0/24 via {NODE}")
    lab.exec("node", "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    lab.exec("wire", "nft", RULES)


def far_agent(flowobs: Stack, *options: str) -> subprocess.Popen[bytes]:
    """The other node's agent, which observes."""
    metrics = f"127.0.0.1:{free_port()}"
    place = ("--netns", flowobs.lab.ns("far"), "--node", "far-node", "--metrics", metrics)
    relay = ("--relay", f"unix://{flowobs.path}/relay.sock")
    agent = flowobs._spawn("far", "flowobs", "agent", *relay, *place, *options)
    flowobs.wait(lambda: flowobs._up(f"http://{metrics}"), "relay")
    return agent


def told(flowobs: Stack) -> dict[str, Any]:
    """What the map says of the packets, each side's own."""
    edges = flowobs.get(f"/api/v1/service-map?q=dst.port:{PORT}")["edges"]
    return {name: edges[0][name] for name in TOLD} if edges else {}
