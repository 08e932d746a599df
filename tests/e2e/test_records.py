"""What records say of particular traffic, as a person reads them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.e2e.lab import HERE, V4, V6, Lab, Stack, stack

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]

CLIENT = str(HERE / "traffic.py")


@pytest.fixture(scope="module", params=["core", pytest.param("bcc", marks=pytest.mark.bcc)])
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Stack]]:
    with Lab() as lab, stack(lab, loader=request.param) as flowobs:
        yield lab, flowobs


def test_a_loopback_connection_is_one_flow_with_both_directions(
    running: tuple[Lab, Stack],
) -> None:
    lab, flowobs = running
    server = lab.start("node", sys.executable, CLIENT, "server", "127.0.0.1", "9000")
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    lab.exec("node", sys.executable, CLIENT, "client", "127.0.0.1", "9000", "1", "100", "200")
    flowobs.settle()
    rows = flowobs.rows(port=9000)
    assert [r["kind"] for r in rows if r["kind"] != "update"] == ["open", "close"]
    assert {(r["interface"], r["reporter"]) for r in rows} == {("lo", "source")}
    assert all(sum(r[c] for r in rows) >= 4 for c in ("packets", "reply_packets"))
    assert rows[-1]["src_process"].startswith("python")


def test_a_refused_connection_says_so_and_who_refused(running: tuple[Lab, Stack]) -> None:
    """Both ports are high ones: only the SYN tells who is the client."""
    lab, flowobs = running
    out = lab.exec("a", sys.executable, CLIENT, "client", V4["b"], "61234", "1", "100", "200")
    assert out == "done 0 failed 1\n"
    flowobs.settle()
    rows = flowobs.rows(port=61234)
    assert {(r["src_name"], r["dst_name"], r["dst_port"]) for r in rows} == {("a-0", "b-0", 61234)}
    kinds = [r["kind"] for r in rows]
    assert kinds.count("open") == kinds.count("close") == 2  # one a reporter
    assert {r["close_reason"] for r in rows if r["kind"] == "close"} == {"reset_destination"}
    assert [r["close_reason"] for r in rows if r["kind"] == "fail"] == ["refused"]
    assert {r["drop_reason"] for r in rows if r["kind"] == "drop"} == {"NO_SOCKET"}
    resets = [(r["reporter"], r["reply"]) for r in rows if r["kind"] == "reset"]
    assert sorted(resets) == [("destination", 1), ("source", 1)]
    (edge,) = [
        e for e in flowobs.get("/api/v1/service-map?since=5m")["edges"] if e["port"] == 61234
    ]
    assert (edge["flows"], edge["resets"], edge["fails"]) == (1, 1, 1)


def test_a_ping_that_is_answered_is_no_drop(running: tuple[Lab, Stack]) -> None:
    """Its raw socket has the reply when the kernel says NO_SOCKET of it."""
    lab, flowobs = running
    for address in (V4["b"], V6["b"]):
        assert " 0% packet loss" in lab.exec("a", "ping", "-c", "2", "-i", "0.2", address)
    flowobs.settle()
    for proto, address in (("icmp", V4["b"]), ("icmpv6", V6["b"])):
        rows = [r for r in flowobs.rows(proto=proto) if r["dst_ip"] == address]
        assert {r["kind"] for r in rows} == {"open", "update"}


def test_a_multicast_is_counted_once_and_understood(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    lab.ip("node", "addr add fd00:99::99/64 dev br0 nodad")
    flowobs.settle()
    lab.exec("node", "ping", "-6", "-c", "2", "-i", "0.2", "-I", "br0", "ff02::1", check=False)
    flowobs.settle()
    skipped = "flowobs_agent_packets_skipped_total"
    assert flowobs.metric(flowobs.agent_url, f'{skipped}{{reason="unparsed"}}') == 0
    sent = [r for r in flowobs.rows(proto="icmpv6") if r.get("interface") == "br0"]
    assert sum(r["packets"] for r in sent if r["dst_ip"] == "ff02::1") == 2
