"""TCP health on the records, against what the kernel itself says: ss, nstat and clocks."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from flowobs.rows import time_text
from tests.e2e.lab import HERE, V4, V6, Lab, Stack, stack
from tests.unseen import kept

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow, pytest.mark.timeout(240)]

TALK = str(HERE / "talk.py")


@pytest.fixture(scope="module", params=["core", pytest.param("bcc", marks=pytest.mark.bcc)])
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Stack]]:
    with Lab() as lab, stack(lab, loader=request.param, drain_interval=0.5) as flowobs:
        yield lab, flowobs


class Talk:
    """A process in a pod that does one thing for each line it is told, and answers with a line."""

    def __init__(self, lab: Lab, pod: str, *words: str) -> None:
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", lab.ns(pod), sys.executable, TALK, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, line: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def server(running: tuple[Lab, Stack]) -> Iterator[Talk]:
    with Talk(running[0], "b") as made:
        yield made


@pytest.fixture
def client(running: tuple[Lab, Stack]) -> Iterator[Talk]:
    with Talk(running[0], "a") as made:
        yield made


def ss(lab: Lab, pod: str, port: int) -> str:
    """What ss tells of the one connection on a port."""
    out = lab.exec(
        pod, "ss", "-tinoH", "state", "connected", f"( sport = :{port} or dport = :{port} )"
    )
    assert len(out.strip().splitlines()) == 2, out
    return out


def acknowledged(lab: Lab, flowobs: Stack, port: int) -> None:
    """Wait until no end waits for an acknowledgement: the last one may be late."""
    flowobs.wait(lambda: not any("unacked:" in ss(lab, pod, port) for pod in "ab"), "agent")


def nft(lab: Lab, pod: str, rule: str) -> None:
    """One more rule in the input chain of a pod."""
    chain = "{ type filter hook input priority 0; }"
    lab.exec(pod, "nft", f"add table inet lab; add chain inet lab in {chain}; {rule}")


def flush(lab: Lab, pod: str) -> None:
    lab.exec(pod, "nft", "flush ruleset")


def rows(flowobs: Stack, port: int, *kinds: str) -> list[dict[str, Any]]:
    return [r for r in flowobs.rows(port=port) if r["kind"] in kinds]


@pytest.mark.parametrize("family", [4, 6])
def test_connect_latency_and_handshake_rtt(
    running: tuple[Lab, Stack], server: Talk, client: Talk, family: int
) -> None:
    _, flowobs = running
    address, port = (V4 if family == 4 else V6)["b"], 7000 + family
    server.say(f"listen {address} {port}")
    took = float(client.say(f"reach {address} {port}"))
    client.say("close")
    flowobs.settle()
    closes = rows(flowobs, port, "close")
    assert {r["reporter"] for r in closes} == {"source", "destination"}
    for r in closes:
        assert 1_000 < r["connect_ns"] < took * 1e9, (r, took)
        # nothing was sent twice: the two halves are the whole
        assert r["src_rtt_ns"] + r["dst_rtt_ns"] == r["connect_ns"]
    near = next(r for r in closes if r["reporter"] == "source")
    far = next(r for r in closes if r["reporter"] == "destination")
    assert near["dst_rtt_ns"] > far["dst_rtt_ns"]  # the far one is nearer to the destination
    assert far["src_rtt_ns"] > near["src_rtt_ns"]


def test_a_lost_syn_makes_the_connection_slow_and_leaves_the_rtt_out(
    running: tuple[Lab, Stack], server: Talk, client: Talk
) -> None:
    lab, flowobs = running
    port = 7010
    server.say(f"listen {V4['b']} {port}")
    # the first SYN only: the limit's bucket holds what comes later
    once = "limit rate over 1/hour burst 1 packets"
    nft(lab, "b", f"add rule inet lab in tcp dport {port} tcp flags syn {once} accept")
    nft(lab, "b", f"add rule inet lab in tcp dport {port} tcp flags syn drop")
    before = retransmitted(lab, "a")
    took = float(client.say(f"reach {V4['b']} {port}"))
    flush(lab, "b")
    assert retransmitted(lab, "a") - before == 1
    client.say("close")
    flowobs.settle()
    for r in rows(flowobs, port, "close"):
        assert 1e9 < r["connect_ns"] < took * 1e9
        # The SYN was seen twice at both places, and the answer may be to either.
        assert "dst_rtt_ns" not in r and 0 < r["src_rtt_ns"] < 1e9
    for reporter in ("source", "destination"):
        of = [r for r in flowobs.rows(port=port) if r["reporter"] == reporter]
        assert sum(r.get("retransmits", 0) for r in of if r["kind"] != "retransmit") == 1


def retransmitted(lab: Lab, pod: str) -> int:
    return int(re.search(r"TcpRetransSegs\s+(\d+)", lab.exec(pod, "nstat", "-asz"))[1])  # type: ignore[index]


def test_smoothed_rtt_is_that_of_ss(running: tuple[Lab, Stack], server: Talk, client: Talk) -> None:
    lab, flowobs = running
    port = 7020
    server.say(f"listen {V4['b']} {port}")
    client.say(f"connect {V4['b']} {port}")
    for _ in range(20):
        client.say("echo 100")
    acknowledged(lab, flowobs, port)
    flowobs.new_interval()
    told = {pod: re.search(r"\brtt:([\d.]+)/", ss(lab, pod, port)) for pod in "ab"}
    began = time_text(time.time_ns())
    # each end's first packet is sampled before anything answers it
    client.say("send 100")
    flowobs.settle()
    update = [r for r in rows(flowobs, port, "update") if r["time"] > began]
    for reporter in ("source", "destination"):
        for pod, side in (("a", "src"), ("b", "dst")):
            found, name = told[pod], f"{side}_srtt_us"
            assert found is not None
            first = next(r[name] for r in update if r["reporter"] == reporter and name in r)
            assert first == round(float(found[1]) * 1000), (update, pod)
    began = time_text(time.time_ns())
    client.say("close")
    flowobs.settle()
    ended = [r for r in rows(flowobs, port, "update", "close") if r["time"] > began]
    for reporter in ("source", "destination"):
        # with each FIN; the two may be of two intervals
        of = [r for r in ended if r["reporter"] == reporter]
        assert of[-1]["kind"] == "close" and of[-1]["connect_ns"] > 0
        for name in ("src_srtt_us", "dst_srtt_us"):
            assert max(r.get(name, 0) for r in of) > 0
    (edge,) = [e for e in flowobs.get("/api/v1/service-map?since=5m")["edges"] if e["port"] == port]
    assert edge["rtt_ms"] > 0 and edge["connect_ms"] > 0


def test_retransmits_are_those_of_ss_and_nstat(
    running: tuple[Lab, Stack], server: Talk, client: Talk
) -> None:
    lab, flowobs = running
    port = 7030
    server.say(f"listen {V4['b']} {port}")
    client.say(f"connect {V4['b']} {port}")
    before = retransmitted(lab, "a")
    nft(lab, "b", f"add rule inet lab in tcp dport {port} numgen inc mod 10 == 0 drop")
    client.say("send 3000000")
    client.say("echo 1")
    flush(lab, "b")
    told = re.search(r"\bretrans:\d+/(\d+)", ss(lab, "a", port))
    assert told is not None
    assert retransmitted(lab, "a") - before == int(told[1]) > 2
    client.say("close")
    flowobs.settle()
    for reporter in ("source", "destination"):
        of = [r for r in rows(flowobs, port, "update", "close") if r["reporter"] == reporter]
        assert sum(r.get("retransmits", 0) for r in of) == int(told[1])
        assert not any(r.get("reply_retransmits") for r in of)
    (edge,) = [e for e in flowobs.get("/api/v1/service-map?since=5m")["edges"] if e["port"] == port]
    assert edge["retransmits"] == int(told[1])


MANY = """
import os, resource, socket, sys, time
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
for _ in range(8):  # processes, each of which may have so many files
    if os.fork():
        continue
    made = [socket.socket() for _ in range(int(sys.argv[3]) // 8)]
    for one in made:
        one.setblocking(False)
        one.connect_ex((sys.argv[1], int(sys.argv[2])))
    time.sleep(2.2)
    os._exit(0)
for _ in range(8):
    assert os.wait()[1] == 0
"""


def test_a_cut_leaves_no_flow_without_its_retransmits(running: tuple[Lab, Stack]) -> None:
    """12,000 attempts at an address that is silent, each of which sends its SYN twice or more.

    The node's own: so many at once from a pod find no room between the ends of its veth.
    """
    lab, flowobs = running
    port = 7033
    silent, mac = "10.99.0.66", "02:99:00:00:00:66"
    lab.ip("node", "addr add 10.99.0.254/24 dev br0")
    lab.ip("node", f"neigh replace {silent} lladdr {mac} dev br0 nud permanent")
    lab.exec("node", "bridge", "fdb", "replace", mac, "dev", "vb", "master", "static")
    before, without_room = retransmitted(lab, "node"), flowobs.without_room()
    lab.exec("node", sys.executable, "-c", MANY, silent, str(port), "12000")
    again = retransmitted(lab, "node") - before
    flowobs.settle()
    lost = flowobs.without_room() - without_room + kept("tcp_retransmit_skb")
    of = flowobs.rows(port=port, kind="update", reporter="source")
    lab.ip("node", "addr del 10.99.0.254/24 dev br0")
    told = sum(r.get("retransmits", 0) for r in of)
    assert again >= 12_000 and len(of) < 100_000
    # what found no room has no flow any more, and may be of another test
    assert again - lost <= told <= again, flowobs.rows(kind="lost")


def test_syn_acks_that_are_sent_again_count_too(
    running: tuple[Lab, Stack], server: Talk, client: Talk
) -> None:
    lab, flowobs = running
    port = 7031
    server.say(f"listen {V4['b']} {port}")
    # the first three do not arrive: no socket that has retransmitted exists yet
    nft(lab, "a", f"add rule inet lab in tcp sport {port} numgen inc mod 100 < 3 drop")
    before = {pod: retransmitted(lab, pod) for pod in "ab"}
    without_room = flowobs.without_room()
    client.say(f"connect {V4['b']} {port}")
    flush(lab, "a")
    client.say("close")
    flowobs.settle()
    again = {pod: retransmitted(lab, pod) - before[pod] for pod in "ab"}
    assert again["a"] >= 1 and again["b"] >= 3
    lost = flowobs.without_room() - without_room  # by another lab: none where there is none
    told = rows(flowobs, port, "retransmit")
    for pod, reply, name in (("a", False, "retransmits"), ("b", True, "reply_retransmits")):
        found = [sum(1 + r.get("lost", 0) for r in told if r.get("reply", False) == reply)]
        for reporter in ("source", "destination"):
            of = [r for r in rows(flowobs, port, "update", "close") if r["reporter"] == reporter]
            found.append(sum(r.get(name, 0) for r in of))
        assert again[pod] - lost <= min(found) <= max(found) <= again[pod], found


def test_a_receiver_that_does_not_read_shows_zero_windows(
    running: tuple[Lab, Stack], server: Talk, client: Talk
) -> None:
    lab, flowobs = running
    port = 7040
    server.say(f"deaf {V4['b']} {port}")
    client.say(f"connect {V4['b']} {port}")
    client.say("flood")
    # the kernel's timer of who was told that there is no room
    flowobs.wait(lambda: "timer:(persist" in ss(lab, "a", port), "agent")
    client.say("reset")
    flowobs.settle()
    found = rows(flowobs, port, "update", "close")
    assert sum(r.get("reply_zero_windows", 0) for r in found) > 0
    assert sum(r.get("zero_windows", 0) for r in found) == 0
    assert {r["close_reason"] for r in found if r["kind"] == "close"} == {"reset_source"}


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.99.0.2", "refused"),
        ("10.99.0.77", "timeout"),
        ("10.99.0.78", "unreachable"),
        ("fd00:99::77", "timeout"),
    ],
)
def test_an_attempt_that_fails_says_why(
    running: tuple[Lab, Stack], client: Talk, address: str, reason: str
) -> None:
    """Refused by a reset; silence; a neighbour that does not answer."""
    lab, flowobs = running
    lab.exec("a", "sysctl", "-qw", "net.ipv4.tcp_syn_retries=1")
    lab.exec("a", "sysctl", "-qw", "net.ipv4.neigh.eth0.retrans_time_ms=100")
    if reason == "timeout":  # frames go out to a hole
        lab.ip("a", f"neigh replace {address} lladdr 02:99:00:00:00:77 dev eth0 nud permanent")
    port = 7050
    said = client.say(f"connect {address} {port}")
    assert (
        said
        == {
            "refused": "ConnectionRefusedError",
            "timeout": "TimeoutError",
            "unreachable": "OSError 113",
        }[reason]
    )
    flowobs.settle()
    (fail,) = [r for r in rows(flowobs, port, "fail") if r["dst_ip"] == address]
    assert fail["close_reason"] == reason
    assert (fail["src_ip"], fail["dst_port"]) == ((V6 if ":" in address else V4)["a"], port)
    assert fail["src_port"] > 1024
    assert fail["src_pid"] == int(client.say("pid"))
    assert fail["src_process"].startswith("python")
    assert (fail["verdict"], fail["reporter"]) == ("error", "source")
    if reason == "timeout":
        again = sum(
            r.get("retransmits", 0) for r in rows(flowobs, port, "update") if r["dst_ip"] == address
        )
        assert again >= 1


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_connect_without_a_route_is_a_record_too(
    running: tuple[Lab, Stack], address: str
) -> None:
    """The kernel sends nothing and changes no state: only the hooks on connect and release tell."""
    lab, flowobs = running
    port = 7060
    with Talk(lab, "node") as client:
        assert client.say(f"connect {address} {port}") == "OSError 101"
        pid = int(client.say("pid"))
        flowobs.settle()
        (fail,) = [r for r in rows(flowobs, port, "fail") if r["dst_ip"] == address]
        assert (fail["close_reason"], fail["dst_port"]) == ("unreachable", port)
        assert (fail["src_pid"], fail["reporter"]) == (pid, "source")
        assert fail["src_ip"] == ("::" if ":" in address else "0.0.0.0")
        assert "src_port" not in fail


@pytest.mark.parametrize("family", [4, 6])
def test_an_attempt_that_a_filter_rejects_says_so(
    running: tuple[Lab, Stack], client: Talk, family: int
) -> None:
    """By ICMP, whose error is no longer in the socket when it closes: who dialled has taken it."""
    lab, flowobs = running
    address = {4: V4, 6: V6}[family]["b"]
    refused, prohibited = 7061 + family, 7071 + family
    nft(lab, "b", f"add rule inet lab in tcp dport {refused} reject with icmpx port-unreachable")
    nft(lab, "b", f"add rule inet lab in tcp dport {prohibited} reject with icmpx admin-prohibited")
    assert client.say(f"dial {address} {refused}") == "ECONNREFUSED"
    # kernels agree on the errors, not for both families
    assert client.say(f"dial {address} {prohibited}") in ("EHOSTUNREACH", "EACCES")
    flush(lab, "b")
    flowobs.settle()
    for port, reason in ((refused, "refused"), (prohibited, "unreachable")):
        (fail,) = rows(flowobs, port, "fail")
        assert fail["close_reason"] == reason
        assert fail["src_pid"] == int(client.say("pid"))


def test_attempts_that_succeed_or_are_closed_are_not_unreachable(
    running: tuple[Lab, Stack], server: Talk, client: Talk
) -> None:
    _, flowobs = running
    port = 7070
    server.say(f"listen {V4['b']} {port}")
    for _ in range(3):
        client.say(f"connect {V4['b']} {port}")
        client.say("close")
    flowobs.settle()
    assert rows(flowobs, port, "close")
    assert not rows(flowobs, port, "fail")


def time_out(
    lab: Lab, server: Talk, client: Talk, address: str, port: int, verdict: str = "drop"
) -> None:
    """A connection to pod b, at ``address``, which no longer gets anything, until the client gives
    up; ``verdict``: nftables'.
    """
    server.say(f"listen {address} {port}")
    client.say(f"connect {address} {port}")
    client.say("echo 10")
    client.say("patience 2000")  # TCP_USER_TIMEOUT
    nft(lab, "b", f"add rule inet lab in tcp dport {port} {verdict}")
    client.say("send 100")
    assert client.say("wait") == ("TimeoutError" if verdict == "drop" else "OSError")
    flush(lab, "b")


@pytest.mark.parametrize(
    ("address", "verdict", "reason"),
    [
        (V4["b"], "drop", "timeout"),
        (V4["b"], "reject with icmpx host-unreachable", "unreachable"),
        (V6["b"], "reject with icmpx host-unreachable", "unreachable"),
    ],
    ids=["silent", "unreachable-4", "unreachable-6"],
)
def test_a_connection_that_is_given_up_closes_and_says_why(
    running: tuple[Lab, Stack], server: Talk, client: Talk, address: str, verdict: str, reason: str
) -> None:
    """No packet tells of its end."""
    lab, flowobs = running
    port = {"drop": 7080, V4["b"]: 7081, V6["b"]: 7082}["drop" if verdict == "drop" else address]
    time_out(lab, server, client, address, port, verdict)
    flowobs.settle()
    closes = rows(flowobs, port, "close")
    assert sorted((r["close_reason"], r["interface"]) for r in closes) == [
        (reason, "va"),
        (reason, "vb"),
    ]
    assert {r["src_pid"] for r in closes} == {int(client.say("pid"))}


def test_a_connection_that_both_ends_closed_does_not_end_again(
    running: tuple[Lab, Stack], server: Talk, client: Talk
) -> None:
    """The last acknowledgement is lost, and the server sends its FIN again until it gives up."""
    lab, flowobs = running
    port = 7085
    lab.exec("b", "sysctl", "-qw", "net.ipv4.tcp_orphan_retries=1")
    server.say(f"listen {V4['b']} {port}")
    client.say(f"reach {V4['b']} {port}")
    nft(lab, "b", f"add rule inet lab in tcp dport {port} tcp flags & (fin | ack) == ack drop")
    client.say("close")
    waiting = ("ss", "-tnH", "state", "connected", f"( sport = :{port} )")
    flowobs.wait(lambda: not lab.exec("b", *waiting), "agent")
    flush(lab, "b")
    flowobs.settle()
    closes = [(r["close_reason"], r["interface"]) for r in rows(flowobs, port, "close")]
    assert sorted(closes) == [("fin_source", "va"), ("fin_source", "vb")]
