"""Tunnels, ICMP errors, multicast and broadcast: one logical flow, and everything counted once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.lab import MAC, V4, V6, Lab, Stack, stack
from tests.e2e.test_health import Talk, rows, time_out
from tests.truth.kernel import proc_net

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]

INSIDE = {"a": "10.98.5.1", "b": "10.98.5.2"}
VNI = 4097
HEADERS = 14 + 20 + 8 + 8 + 14
"""Ethernet, IPv4, UDP, VXLAN, and the inner Ethernet, which the device does not count either."""
UNITS = ("packets", "bytes")
SEND = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for _ in range(int(sys.argv[3])):
    try:
        s.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
    except ConnectionRefusedError:
        pass
"""


@pytest.fixture(scope="module", params=["core", pytest.param("bcc", marks=pytest.mark.bcc)])
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Stack]]:
    with Lab() as lab:
        for pod, other in (("a", "b"), ("b", "a")):
            kind = f"vxlan id {VNI} remote {V4[other]} local {V4[pod]} dstport 4789"
            lab.ip(pod, f"link add vx0 type {kind}")
            lab.ip(pod, "link set vx0 addrgenmode none")
            lab.ip(pod, f"link set vx0 mtu 1450 address {MAC[pod]} up")
            lab.ip(pod, f"addr add {INSIDE[pod]}/24 dev vx0")
            neighbour = f"{INSIDE[other]} lladdr {MAC[other]} dev vx0"
            lab.ip(pod, f"neigh replace {neighbour} nud permanent")
        with stack(lab, loader=request.param) as flowobs:
            lab.server(INSIDE["b"], 8080)
            yield lab, flowobs


def send(lab: Lab, pod: str, address: str, port: int, times: int = 1) -> None:
    lab.exec(pod, sys.executable, "-c", SEND, address, str(port), str(times))


def of(flowobs: Stack, **columns: Any) -> list[dict[str, Any]]:
    return [r for r in flowobs.rows() if all(r.get(n) == v for n, v in columns.items())]


def test_a_tunnel_is_one_edge_between_those_who_talk_in_it(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    flowobs.settle()
    seen, links = len(flowobs.rows()), {v: lab.counters(v) for v in ("va", "vb")}
    device = lab.counters("vx0", "a")
    lab.client(INSIDE["b"], 8080, 50)
    flowobs.settle()
    rows = flowobs.rows(last=100_000)[seen:]

    inside = {"src_ip": INSIDE["a"], "dst_ip": INSIDE["b"], "dst_port": 8080, "tunnel": "vxlan"}
    outside = {"tunnel_id": VNI, "tunnel_src_ip": V4["a"], "tunnel_dst_ip": V4["b"]}
    for link, reporter, forward, back in (
        ("va", "source", "rx", "tx"),
        ("vb", "destination", "tx", "rx"),
    ):
        mine = [r for r in rows if r.get("interface") == link]
        for row in mine:
            assert {n: row.get(n) for n in inside | outside} == inside | outside
            assert row["reporter"] == reporter
        kinds = Counter(r["kind"] for r in mine)
        assert kinds["open"] == kinds["close"] == 50
        now = lab.counters(link)
        for unit in UNITS:
            for side, prefix in ((forward, ""), (back, "reply_")):
                moved = now[f"{side}_{unit}"] - links[link][f"{side}_{unit}"]
                assert sum(r[prefix + unit] for r in mine) == moved

    # what the tunnel's own device counted, which knows nothing of the outer headers
    now = lab.counters("vx0", "a")
    mine = [r for r in rows if r.get("interface") == "va"]
    for side, prefix in (("tx", ""), ("rx", "reply_")):
        packets = sum(r[prefix + "packets"] for r in mine)
        assert packets == now[f"{side}_packets"] - device[f"{side}_packets"]
        moved = now[f"{side}_bytes"] - device[f"{side}_bytes"]
        assert sum(r[prefix + "bytes"] for r in mine) == moved + packets * HEADERS

    edges = flowobs.get("/api/v1/service-map?since=10m")["edges"]
    # the stack's events come from all of the machine, so from other labs, too
    edges = [e for e in edges if e["packets"]]
    assert [(e["proto"], e["port"], e["flows"]) for e in edges] == [("tcp", 8080, 50)]
    assert edges[0]["bytes"] == sum(r["bytes"] for r in mine)
    assert len(flowobs.rows(q="tunnel:vxlan+tunnel_id:4097")) == len(mine) * 2


def in_tunnel(row: dict[str, Any]) -> bool:
    names = ("tunnel", "tunnel_id", "tunnel_src_ip", "tunnel_dst_ip")
    return [row.get(name) for name in names] == ["vxlan", VNI, V4["a"], V4["b"]]


def test_a_close_without_packets_knows_its_tunnel(running: tuple[Lab, Stack]) -> None:
    """The other end goes silent for longer than a drain takes: an event tells of the close."""
    lab, flowobs = running
    port = 7080
    with Talk(lab, "b") as server, Talk(lab, "a") as client:
        time_out(lab, server, client, INSIDE["b"], port)
    flowobs.settle()
    closes = rows(flowobs, port, "close")
    reasons = [(r["close_reason"], r["interface"]) for r in closes]
    assert sorted(reasons) == [("timeout", "va"), ("timeout", "vb")]
    assert all(map(in_tunnel, rows(flowobs, port, "open", "update", "close")))


def test_the_same_ports_again_in_a_tunnel_are_another_connection(
    running: tuple[Lab, Stack],
) -> None:
    lab, flowobs = running
    port, own = 7081, 34567
    with Talk(lab, "b") as server, Talk(lab, "a") as client:
        server.say(f"listen {INSIDE['b']} {port}")
        for _ in range(2):
            float(client.say(f"connect {INSIDE['b']} {port} {own}"))
            client.say("echo 10")
            flowobs.new_interval()
            client.say("reset")
    flowobs.settle()
    for link in ("va", "vb"):
        mine = [r for r in rows(flowobs, port, "open", "close") if r.get("interface") == link]
        assert Counter(r["kind"] for r in mine) == {"open": 2, "close": 2}
        assert {(r["src_port"], in_tunnel(r)) for r in mine} == {(own, True)}
        assert {r["close_reason"] for r in mine if r["kind"] == "close"} == {"reset_source"}


def test_arp_in_a_tunnel_makes_no_edge(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    skipped = 'flowobs_agent_packets_skipped_total{reason="not_ip"}'
    before = flowobs.metric(flowobs.agent_url, skipped)
    lab.ip("a", f"neigh del {INSIDE['b']} dev vx0")
    lab.client(INSIDE["b"], 8080, 1)
    flowobs.settle()
    # question and answer, at either veth and on the bridge's way
    assert flowobs.metric(flowobs.agent_url, skipped) >= before + 4
    assert [r for r in flowobs.rows(port=4789) if "interface" in r] == []


def test_segments_in_a_tunnel_are_packets_of_the_wire(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    flowobs.settle()
    seen, before = len(flowobs.rows()), proc_net(lab, "a")
    lab.client(INSIDE["b"], 8080, 1, up=20_000_000, down=100)
    flowobs.settle()
    tcp = proc_net(lab, "a") - before
    sent = tcp["Tcp.OutSegs"] + tcp["Tcp.RetransSegs"]
    mine = [r for r in flowobs.rows()[seen:] if r.get("interface") == "va"]
    packets, size = (sum(r[unit] for r in mine) for unit in UNITS)
    print(tcp, packets, size)
    assert sent > 10_000
    assert packets == sent
    # every segment has all headers, inner and outer: TCP's with its timestamps
    headers = 2 * 14 + 20 + 8 + 8 + 20 + 32
    again = tcp["Tcp.RetransSegs"] * 1450  # at most: on a busy machine some are lost
    rest = size - 20_000_000 - packets * headers
    assert -0.001 * packets * headers < rest < 0.001 * packets * headers + again


@pytest.mark.parametrize(
    ("addresses", "type", "code", "protocol"),
    [(V4, 3, 3, "icmp"), (V6, 1, 4, "icmpv6")],
    ids=["ipv4", "ipv6"],
)
def test_an_icmp_error_is_told_of_the_flow_that_failed(
    running: tuple[Lab, Stack],
    addresses: dict[str, str],
    type: int,
    code: int,
    protocol: str,
) -> None:
    lab, flowobs = running
    send(lab, "a", addresses["b"], 9999)
    flowobs.settle()
    told = [r for r in flowobs.rows(kind="icmp_error") if r["src_ip"] == addresses["a"]]
    assert {(r["interface"], r["reporter"]) for r in told} == {
        ("va", "source"),
        ("vb", "destination"),
    }
    for row in told:
        assert (row["proto"], row["dst_ip"], row["dst_port"]) == ("udp", addresses["b"], 9999)
        assert (row["src_name"], row["dst_name"]) == ("a-0", "b-0")
        assert (row["icmp_type"], row["icmp_code"]) == (type, code)
        assert row["icmp_ip"] == addresses["b"]
        assert (row["packets"], row["reply_packets"], row.get("reply", 0)) == (0, 0, 0)
        assert row["verdict"] == "error"
    (port,) = {r["src_port"] for r in told}
    assert {r["kind"] for r in of(flowobs, src_port=port, proto="udp")} > {"open", "icmp_error"}
    # the error itself is a packet of its own flow
    own = [r for r in flowobs.rows(proto=protocol) if r.get("icmp_type") == type]
    assert sum(r["packets"] for r in own if r["interface"] == "va") == 1


def test_more_errors_than_anybody_reads_are_counted(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    limit = "net.ipv4.icmp_ratemask=0"
    lab.exec("b", "sysctl", "-qw", limit)
    send(lab, "a", V4["b"], 9998, 200)
    flowobs.settle()
    own = [r for r in of(flowobs, interface="va", icmp_type=3) if r["proto"] == "icmp"]
    told = of(flowobs, kind="icmp_error", interface="va", dst_port=9998)
    assert len(told) >= 5
    assert len(told) + sum(r.get("lost", 0) for r in told) <= sum(r["packets"] for r in own)


def test_who_talks_to_many_is_marked(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    many = {
        "239.1.2.3": "multicast",
        "255.255.255.255": "broadcast",
        "10.99.0.255": "broadcast",
        "ff02::99": "multicast",
    }
    lab.ip("a", "addr change 10.99.0.1/24 brd 10.99.0.255 dev eth0")
    lab.ip("a", "route replace 224.0.0.0/4 dev eth0")
    lab.ip("a", "route replace 255.255.255.255 dev eth0")
    for address in many:
        scope = "%eth0" if ":" in address else ""
        send(lab, "a", address + scope, 500, 3)
    flowobs.settle()
    rows = [r for r in flowobs.rows() if r["dst_ip"] in many and r["interface"] == "va"]
    assert {r["dst_ip"]: r["cast"] for r in rows} == many
    assert {r["src_ip"] for r in rows} <= {V4["a"], V6["a"]}
    counted = Counter[str]()
    for row in rows:
        counted[row["dst_ip"]] += row["packets"]
    assert counted == dict.fromkeys(many, 3)
    assert not any("cast" in r for r in flowobs.rows(port=8080))
