"""Drops: the kernel's reason, where it happened, and all of them counted where few are told."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import V4, V6, Lab, Stack, stack

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow, pytest.mark.timeout(240)]

SEND = """
import socket, sys, time
address, port, bursts = sys.argv[1], int(sys.argv[2]), map(int, sys.argv[3:])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("", 40000))
    for burst in bursts:
        for _ in range(burst):
            try:
                sock.sendto(b"x", (address, port))
            except OSError:
                pass
        time.sleep(1.3)
"""


FLOOD = """
import socket, sys
address, port, packets, flows = sys.argv[1], *map(int, sys.argv[2:])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("", 40000))
    for _ in range(packets):
        sock.sendto(b"x", (address, port))
for source in range(1024, 1024 + flows):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", source))
        sock.sendto(b"x", (address, port))
"""


@pytest.fixture(scope="module", params=["core", pytest.param("bcc", marks=pytest.mark.bcc)])
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Stack]]:
    with Lab() as lab, stack(lab, loader=request.param) as flowobs:
        yield lab, flowobs


def forbid(lab: Lab, place: str, hook: str, port: int) -> None:
    chain = f"{{ type filter hook {hook} priority 0; }}"
    lab.exec(
        place,
        "nft",
        f"add table inet lab; add chain inet lab {hook} {chain};"
        f" add rule inet lab {hook} udp dport {port} counter drop",
    )


def forbidden(lab: Lab, place: str) -> int:
    """What nftables itself has counted; the rules go."""
    ruleset = json.loads(lab.exec(place, "nft", "-j", "list", "ruleset"))["nftables"]
    lab.exec(place, "nft", "flush", "ruleset")
    return sum(
        part["counter"]["packets"]
        for item in ruleset
        for part in item.get("rule", {}).get("expr", [])
        if "counter" in part
    )


def send(lab: Lab, place: str, address: str, port: int, *bursts: int) -> None:
    words = map(str, (address, port, *bursts))
    lab.exec(place, sys.executable, "-c", SEND, *words)


def drops(flowobs: Stack, port: int) -> list[dict[str, Any]]:
    """Of packets to a port; the flood's come from any."""
    return [r for r in flowobs.rows(port=port, kind="drop") if r["dst_port"] == port]


def inode(lab: Lab, place: str) -> int:
    return Path("/run/netns", lab.ns(place)).stat().st_ino


def test_a_netfilter_drop_in_a_pod(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    forbid(lab, "b", "input", 7101)
    send(lab, "a", V4["b"], 7101, 3)
    flowobs.settle()
    found = drops(flowobs, 7101)
    assert forbidden(lab, "b") == len(found) == 3
    for r in found:
        assert (r["drop_reason"], r["verdict"]) == ("NETFILTER_DROP", "dropped")
        assert (r["src_name"], r["dst_name"], r["src_port"]) == ("a-0", "b-0", 40000)
        assert r["netns"] == inode(lab, "b")
        assert "interface" not in r  # eth0 of a namespace that is not the observed one


def test_a_netfilter_drop_on_the_node_names_the_interface(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    lab.ip("node", "addr add 10.99.0.254/24 dev br0")
    forbid(lab, "node", "input", 7102)
    send(lab, "a", "10.99.0.254", 7102, 2)
    flowobs.settle()
    found = drops(flowobs, 7102)
    assert forbidden(lab, "node") == len(found) == 2
    assert {(r["interface"], r["netns"]) for r in found} == {("br0", inode(lab, "node"))}
    assert {r["drop_reason"] for r in found} == {"NETFILTER_DROP"}


def test_drops_that_are_held_back_are_counted(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    forbid(lab, "b", "input", 7103)
    send(lab, "a", V4["b"], 7103, 1, 60)  # nothing comes after the flood
    flowobs.settle()
    found = drops(flowobs, 7103)
    assert forbidden(lab, "b") == 61
    # five a second and flow, and one a drain: nine, or more where the machine stretches the flood
    assert len(found) < 20
    assert sum(1 + r.get("lost", 0) for r in found) == 61
    (edge,) = [e for e in flowobs.get("/api/v1/service-map?since=5m")["edges"] if e["port"] == 7103]
    assert (edge["drops"], edge["drop_reasons"]) == (61, {"NETFILTER_DROP": 61})


def test_a_flood_is_counted_to_the_last_packet(running: tuple[Lab, Stack]) -> None:
    """One flow, and then more flows than the map of what is held back has entries."""
    lab, flowobs = running
    forbid(lab, "b", "input", 7106)
    lab.exec("a", sys.executable, "-c", FLOOD, V4["b"], "7106", "100000", "25000")
    flowobs.settle()
    kernel = forbidden(lab, "b")
    told = sum(1 + r.get("lost", 0) for r in drops(flowobs, 7106))
    lost = [r for r in flowobs.rows(kind="lost") if r["drop_reason"] == "held_full"]
    assert kernel == 125_000
    # what found no room has no address any more, and may be of another test
    assert kernel - sum(r["lost"] for r in lost) <= told <= kernel
    # the one flow is told in full, whatever the many do later
    of_one = [r for r in drops(flowobs, 7106) if r["src_port"] == 40000]
    assert sum(1 + r.get("lost", 0) for r in of_one) >= 100_000


EXTENDED = """
import socket, sys
options = bytes([0, 0, 1, 4, 0, 0, 0, 0])
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
    sock.bind(("", 40000))
    send = [
        (b"x", [(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, options)]),
        (b"x", [(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, options)]),
        (bytes(4000), []),
    ]
    for data, headers in send:
        sock.sendmsg([data], headers, 0, (sys.argv[1], int(sys.argv[2])))
"""


def test_a_packet_with_extension_headers_is_dropped_from_its_flow(
    running: tuple[Lab, Stack],
) -> None:
    """Hop-by-hop, destination options, fragments."""
    lab, flowobs = running
    forbid(lab, "b", "input", 7107)
    lab.exec("a", sys.executable, "-c", EXTENDED, V6["b"], "7107")
    flowobs.settle()
    found = drops(flowobs, 7107)
    assert forbidden(lab, "b") == len(found) == 3
    assert {(r["proto"], r["src_port"], r["src_name"]) for r in found} == {("udp", 40000, "a-0")}


def test_one_noisy_flow_does_not_hide_another(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    forbid(lab, "b", "input", 7104)
    forbid(lab, "b", "input", 7105)
    send(lab, "a", V4["b"], 7104, 100)
    send(lab, "a", V4["b"], 7105, 1)
    flowobs.settle()
    assert forbidden(lab, "b") == 101
    assert len(drops(flowobs, 7105)) == 1


NOWHERE = {
    "10.97.1.9": ("blackhole", "route_blackhole"),
    "10.97.2.9": ("unreachable", "route_unreachable"),
    "10.97.3.9": ("prohibit", "route_prohibit"),
    "fd97:1::9": ("blackhole", "route_blackhole"),
    "fd97:2::9": ("unreachable", "IP_INNOROUTES"),
    "fd97:3::9": ("prohibit", "IP_INNOROUTES"),
}
"""Addresses -> kind of route, and what is told: only with IPv6 the kernel has a reason at times."""
TWICE = """
import socket, sys
for address in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(2):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (address, int(sys.argv[1])))
"""


def test_a_route_that_leads_nowhere(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    for gateway, length in (("10.99.0.253", "24"), ("fd00:99::fd", "64 nodad")):
        lab.ip("node", f"addr add {gateway}/{length} dev br0")
        lab.ip("a", f"route add default via {gateway}")
    for knob in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
        lab.exec("node", "sysctl", "-q", "-w", knob)
    for address, (kind, _) in NOWHERE.items():
        lab.ip("node", f"route add {kind} {address}")
    lab.exec("a", sys.executable, "-c", TWICE, "7108", *NOWHERE)
    flowobs.settle()
    found = {(r["dst_ip"], r["drop_reason"], r["interface"]) for r in drops(flowobs, 7108)}
    assert found == {(address, reason, "br0") for address, (_, reason) in NOWHERE.items()}
    assert len(drops(flowobs, 7108)) == 2 * len(NOWHERE)
