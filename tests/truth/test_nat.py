"""Both sides of a NAT are one flow: client, virtual address and backend as in ``conntrack -L``."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from flowobs.rows import time_text
from tests.e2e.lab import V4, V6, Stack, stack
from tests.truth.conftest import TALK
from tests.truth.nat import (
    BACKEND_PORT,
    CLUSTER,
    NODE,
    NODE_PORT,
    SELF,
    VIRTUAL_PORT,
    Router,
    edges,
    told,
)
from tests.truth.test_owners import more, talking

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]

FLOWS, ROUNDS, SIZE = 25, 2, 100
CASES = {
    "cluster-ip": (CLUSTER, VIRTUAL_PORT, "b", "web", False),
    "node-port": (NODE, NODE_PORT, "b", None, True),
    "hairpin": (SELF, VIRTUAL_PORT, "a", "self", True),
}
"""Virtual address and port, backend, service that was asked for, whether the client is hidden."""


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Router, Stack]]:
    inventory = tmp_path_factory.mktemp("nat") / "inventory.yaml"
    inventory.write_text(Router.inventory)
    with Router() as lab, stack(lab, agent_options=("--inventory", str(inventory))) as flowobs:
        for pod in ("a", "b"):
            for table in (V4, V6):
                words = ("server", table[pod], str(BACKEND_PORT))
                server = lab.start(pod, sys.executable, TALK, *words)
                assert server.stdout is not None and server.stdout.readline() == "ready\n"
        yield lab, flowobs


@pytest.mark.parametrize("name", CASES)
def test_client_virtual_address_and_backend(routed: tuple[Router, Stack], name: str) -> None:
    lab, flowobs = routed
    virtual, port, pod, service, hidden = CASES[name]
    for address in virtual.values():
        for kind in ("tcp", "udp"):
            words = (kind, address, str(port), str(FLOWS), str(ROUNDS), str(SIZE))
            lab.exec("a", sys.executable, TALK, *words)
    asked = [(address, port) for address in virtual.values()]
    truth = {t for t in lab.conntrack() if t.virtual in asked}
    assert len(truth) == 4 * FLOWS
    assert {t.snat != t.source for t in truth} == {hidden}
    flowobs.settle()
    mine = [r for r in flowobs.rows() if (r.get("virtual_ip"), r.get("virtual_port")) in asked]
    assert {told(r) for r in mine} == truth

    ends = {("source", "va"), ("destination", f"v{pod}")}
    assert {(r["reporter"], r["interface"]) for r in mine} == ends
    assert {(r["src_name"], r["dst_name"]) for r in mine} == {("a-0", f"{pod}-0")}
    assert {r.get("dst_service") for r in mine} == {service}
    for reporter, _ in ends:
        of = [r for r in mine if r["reporter"] == reporter]
        opens = Counter(told(r) for r in of if r["kind"] == "open")
        assert opens == dict.fromkeys(truth, 1)
        closes = Counter(told(r) for r in of if r["kind"] == "close")
        assert closes == dict.fromkeys((t for t in truth if t.proto == "tcp"), 1)
        datagrams = [r for r in of if r["proto"] == "udp"]
        for way in ("packets", "reply_packets"):
            assert sum(r[way] for r in datagrams) == 2 * FLOWS * ROUNDS


def test_the_map_has_one_edge(routed: tuple[Router, Stack]) -> None:
    """Whatever was asked for, all traffic of the tests above went from a to b, or to a itself."""
    _, flowobs = routed
    answer = flowobs.get("/api/v1/service-map?since=5m")
    assert {e for e in edges(answer) if e[2] in ("tcp", "udp")} == {
        ("lab/a-0", f"lab/{pod}-0", proto, BACKEND_PORT)
        for pod in ("a", "b")
        for proto in ("tcp", "udp")
    }
    flows = {(e["destination"], e["proto"]): e["flows"] for e in answer["edges"]}
    for proto in ("tcp", "udp"):
        assert flows["lab/b-0", proto] == 2 * 2 * FLOWS
        assert flows["lab/a-0", proto] == 2 * FLOWS
    shown = {address for node in answer["nodes"] for address in node["addresses"]}
    assert not shown & {*CLUSTER.values(), *SELF.values(), *NODE.values()}


def test_pings_through_a_masquerade(routed: tuple[Router, Stack]) -> None:
    """An echo's identifier may change on its way: it is the client's that counts."""
    lab, flowobs = routed
    rule = "meta l4proto { icmp, icmpv6 } masquerade"
    lab.exec("node", "nft", f"add rule inet nat postrouting {rule}")
    for table in (V4, V6):
        lab.exec("a", sys.executable, TALK, "icmp", table["b"], "7300", "3", "2", "56")
    flowobs.settle()
    identifiers = range(7300, 7303)
    for version, table in ((4, V4), (6, V6)):
        rows = [r for r in flowobs.rows() if r["dst_ip"] == table["b"]]
        mine = [r for r in rows if r.get("src_port") in identifiers]
        assert {r["src_ip"] for r in mine} == {table["a"]}
        assert {r.get("snat_ip") for r in mine} == {NODE[version]}
        assert not any("virtual_ip" in r for r in mine)
        for reporter in ("source", "destination"):
            counted = Counter[int]()
            for r in mine:
                if r["reporter"] == reporter:
                    counted[r["src_port"]] += r["packets"]
            assert counted == dict.fromkeys(identifiers, 2)


def test_the_agent_came_later(routed: tuple[Router, Stack]) -> None:
    """Connections that were translated before it are known from the kernel's list."""
    lab, flowobs = routed
    assert flowobs.agent is not None
    with talking(lab, "tcp", CLUSTER[4], VIRTUAL_PORT) as old:
        flowobs.agent.terminate()
        flowobs.agent.wait(20)
        flowobs.start_agent()
        since = time_text(time.time_ns())
        more(old)
        flowobs.settle()
        rows = [r for r in flowobs.rows(port=BACKEND_PORT) if r["time"] > since]
        truth = lab.conntrack()
    assert len({told(r) for r in rows}) == 1
    assert {told(r) for r in rows} <= truth
    assert {r["reporter"] for r in rows} == {"source", "destination"}
