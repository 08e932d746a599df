from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator

import pytest

from flowobs.agent import netlink, netns
from flowobs.agent.links import Link, LinkMonitor
from tests.agent.netlab import NEAR, NetLab, sh, wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def lab() -> Iterator[NetLab]:
    with NetLab() as made:
        yield made


@pytest.fixture
def monitor(lab: NetLab) -> Iterator[LinkMonitor]:
    made = LinkMonitor(lab.path)
    yield made
    made.close()


def by_name(monitor: LinkMonitor) -> dict[str, Link]:
    return {link.name: link for link in monitor.links.values()}


def test_links_of_a_namespace(lab: NetLab, monitor: LinkMonitor) -> None:
    events = monitor.open()

    assert {(e.change, e.link.name) for e in events} == {("added", "lo"), ("added", "v0")}
    links = by_name(monitor)
    assert links["lo"].loopback and links["lo"].up and links["lo"].kind == ""
    veth = links["v0"]
    assert (veth.kind, veth.up, veth.loopback, veth.master) == ("veth", True, False, 0)
    assert veth.peer_elsewhere and veth.peer > 0
    assert veth.addresses == {bytes(10) + b"\xff\xff" + socket.inet_aton(NEAR)}


def test_local_addresses_say_where_they_are(lab: NetLab, monitor: LinkMonitor) -> None:
    lab.ip("link add d0 type bridge")
    sh(f"ip netns exec {lab.near} sysctl -qw net.ipv6.conf.d0.disable_ipv6=0")
    lab.ip("addr add fd00::7/128 dev d0")
    monitor.open()

    found = monitor.local_addresses()

    assert found[socket.inet_pton(socket.AF_INET6, "fd00::7")] == by_name(monitor)["d0"].ifindex


@pytest.mark.parametrize(
    ("address", "in_subnet"),
    [("10.98.7.1/31", True), ("10.98.7.1/32", False), ("169.254.7.1/16", False)],
)
def test_a_link_may_be_in_a_subnet(
    lab: NetLab, monitor: LinkMonitor, address: str, in_subnet: bool
) -> None:
    monitor.open()
    assert by_name(monitor)["v0"].in_subnet
    lab.ip("addr flush dev v0")
    lab.ip(f"addr add {address} dev v0")
    monitor.poll()
    assert by_name(monitor)["v0"].in_subnet is in_subnet


def test_an_address_in_two_subnets_stays_until_both_are_gone(
    lab: NetLab, monitor: LinkMonitor
) -> None:
    monitor.open()
    before = by_name(monitor)["v0"]
    lab.ip(f"addr add {NEAR}/25 dev v0")
    lab.ip(f"addr del {NEAR}/25 dev v0")
    monitor.poll()
    assert by_name(monitor)["v0"] == before


def test_changes_arrive_as_events(lab: NetLab, monitor: LinkMonitor) -> None:
    monitor.open()
    lab.ip("link add br0 type bridge")
    lab.ip("link set v0 master br0")
    added, changed = sorted(monitor.poll(), key=lambda e: e.change)
    assert (added.change, added.link.name, added.link.kind) == ("added", "br0", "bridge")
    assert changed.link.master == added.link.ifindex

    lab.ip("addr add 10.98.7.1/24 dev br0")
    (event,) = monitor.poll()
    assert event.change == "changed" and len(event.link.addresses) == 1

    lab.ip("addr del 10.98.7.1/24 dev br0")
    lab.ip("link set v0 nomaster")
    assert {e.link.addresses or e.link.master for e in monitor.poll() if e.link.name == "br0"} == {
        0
    }

    lab.ip("link del br0")
    assert [(e.change, e.link.name) for e in monitor.poll()] == [("removed", "br0")]
    assert monitor.poll() == []


def test_leaving_a_bridge_is_not_leaving_the_namespace(lab: NetLab, monitor: LinkMonitor) -> None:
    monitor.open()
    lab.ip("link add br0 type bridge")
    lab.ip("link set v0 master br0")
    lab.ip("link set v0 nomaster")
    monitor.poll()

    assert "v0" in by_name(monitor)


def test_a_number_used_again_is_another_link(lab: NetLab, monitor: LinkMonitor) -> None:
    lab.ip("link add name one index 77 type bridge")
    monitor.open()
    lab.ip("link del one")
    lab.ip("link add name two index 77 type bridge")

    assert [(e.change, e.link.name) for e in monitor.poll()] == [
        ("removed", "one"),
        ("added", "two"),
    ]


def test_overrun_is_made_good_by_listing_anew(lab: NetLab) -> None:
    monitor = LinkMonitor(lab.path, receive_buffer_bytes=4096)
    monitor.open()
    lab.ip("link del v0")
    sh(f"for i in $(seq 40); do echo link add d$i type bridge; done | ip -n {lab.near} -batch -")

    events = monitor.poll()

    assert monitor.overruns == 1
    assert ("removed", "v0") in {(e.change, e.link.name) for e in events}
    assert sum(e.change == "added" for e in events) == 40
    monitor.close()


@pytest.mark.parametrize("interruptions", [4, 5])
def test_a_listing_that_links_changed_under_is_done_again(
    lab: NetLab, monkeypatch: pytest.MonkeyPatch, interruptions: int
) -> None:
    listing = netlink.links_and_addresses
    left = iter(range(interruptions))

    def interrupted(sock: socket.socket) -> list[netlink.Message]:
        if next(left, None) is not None:
            raise netlink.DumpInterrupted(errno.EAGAIN, "links change faster than they are listed")
        return listing(sock)

    monkeypatch.setattr(netlink, "links_and_addresses", interrupted)
    monitor = LinkMonitor(lab.path)
    if interruptions == 5:
        with pytest.raises(OSError, match="faster than they are listed"):
            monitor.open()
    else:
        assert len(monitor.open()) == 2
    monitor.close()


def test_the_process_stays_where_it_is(lab: NetLab, monitor: LinkMonitor) -> None:
    before = sh("readlink /proc/self/ns/net")
    monitor.open()
    inside = netns.call(lab.path, lambda: sh("readlink /proc/self/ns/net"))

    assert sh("readlink /proc/self/ns/net") == before != inside
    wait_until(lambda: all(t.name != "netns" for t in threading.enumerate()))


def test_no_such_namespace(tmp_path: object) -> None:
    with pytest.raises(OSError, match="No such file"):
        LinkMonitor("/run/netns/fo-does-not-exist").open()
    with pytest.raises(OSError, match="cannot enter network namespace"):
        LinkMonitor("/proc/self/ns/pid").open()


def test_closed_monitor_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"call open\(\) first"):
        LinkMonitor().poll()


def test_broken_messages_end_quietly() -> None:
    header = (4).to_bytes(4, "little") + bytes(12)  # shorter than itself
    assert list(netlink.messages(header)) == []
    assert netlink.attributes(memoryview(b"\x02\0\x01\0")) == {}


def test_clsact_queue_is_ours_only_when_we_made_it(lab: NetLab) -> None:
    with netns.call(lab.path, lambda: netlink.open_socket(monitor=False)) as sock:
        index = int(lab.ip("-o link show v0").split(":")[0])
        assert netlink.add_clsact(sock, index)
        assert not netlink.add_clsact(sock, index)
        sh(f"tc -n {lab.near} filter add dev v0 ingress pref 9 bpf bytecode '1,6 0 0 0'")
        assert not netlink.remove_clsact(sock, index)
        sh(f"tc -n {lab.near} filter del dev v0 ingress pref 9")
        assert netlink.remove_clsact(sock, index)
        assert "clsact" not in sh(f"tc -n {lab.near} qdisc show dev v0")
        with pytest.raises(OSError, match="refused a change"):
            netlink.add_clsact(sock, 4_000_000)
