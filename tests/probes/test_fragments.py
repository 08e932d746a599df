"""All fragments of a packet count in its flow."""

from __future__ import annotations

import struct

import pytest

from tests.probes.corpus import (
    FRAGMENT,
    ICMP,
    IPV4,
    IPV6,
    MACS,
    OPTIONS,
    UDP,
    echo,
    ethernet,
    ipv4,
    ipv6,
    udp,
)
from tests.probes.kernel import Counts, Runner

pytestmark = [pytest.mark.root, pytest.mark.bpf]

MORE, AT_8 = 0x2000, 0x0001
PORTS = (5353, 53)


def first(way: int = 0) -> bytes:
    return ethernet(ipv4(udp(b"12345678", way=way), UDP, fragment=MORE, way=way), IPV4)


def later(way: int = 0) -> bytes:
    return ethernet(ipv4(b"the rest", UDP, fragment=AT_8, way=way), IPV4)


def counted(runner: Runner, *packets: bytes) -> Counts:
    """Packets and bytes by (ports, icmp, protocol)."""
    flows = runner.run(packets).flows
    return {(*key[2:4], *key[5:7]): counts[:2] for key, counts in flows.items()}


def test_later_fragments_have_the_ports_of_the_first(runner: Runner) -> None:
    size = len(first()) + 2 * len(later())
    assert counted(runner, first(), later(), later()) == {(*PORTS, 0, UDP): [3, size]}


def test_not_those_of_another_sender(runner: Runner) -> None:
    found = counted(runner, first(), later(way=1))
    assert set(found) == {(*PORTS, 0, UDP), (0, 0, 0, UDP)}


def test_not_those_of_another_packet(runner: Runner) -> None:
    other = later().replace(struct.pack("!HH", 77, AT_8), struct.pack("!HH", 78, AT_8))
    assert other != later()
    assert set(counted(runner, first(), other)) == {(*PORTS, 0, UDP), (0, 0, 0, UDP)}


def test_a_later_fragment_alone_has_none(runner: Runner) -> None:
    assert counted(runner, later()) == {(0, 0, 0, UDP): [1, len(later())]}


def test_a_large_ping(runner: Runner) -> None:
    start = ethernet(ipv4(echo(8, identifier=9), ICMP, fragment=MORE), IPV4)
    rest = ethernet(ipv4(b"the rest", ICMP, fragment=AT_8), IPV4)
    assert set(counted(runner, start, rest)) == {(9, 9, 8 << 8, ICMP)}


def test_ipv6_with_headers_behind_the_fragment_header(runner: Runner) -> None:
    options = (OPTIONS, b"\0" + b"\1\4" + bytes(4))
    start = ipv6(udp(b"12345678"), UDP, (FRAGMENT, b"\0\0\1\0\0\0\7"), options)
    rest = ipv6(b"the rest", OPTIONS, (FRAGMENT, b"\0\0\x18\0\0\0\7"))
    found = counted(runner, ethernet(start, IPV6), ethernet(rest, IPV6))
    assert found == {(*PORTS, 0, UDP): [2, len(start) + len(rest) + 2 * (len(MACS) + 2)]}
