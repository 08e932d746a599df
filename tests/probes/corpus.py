"""Good packets to start from, and seeded ways to spoil them. Built by ``struct`` alone: neither the
probes nor the parser they are compared with has a part in it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

IPV4, IPV6, VLAN, QINQ = 0x0800, 0x86DD, 0x8100, 0x88A8
ICMP, IPIP, TCP, UDP, IP6, ROUTING, FRAGMENT, GRE, ESP, AH, ICMP6, OPTIONS, SCTP = (
    *(1, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 60, 132),
)
BRIDGED, ERSPAN = 0x6558, 0x88BE
HOP = 0

# few values, so that mutated packets meet in the same flows and both directions occur
HOSTS4 = [bytes((10, 9, 0, n)) for n in range(1, 3)]
HOSTS6 = [b"\xfd" + bytes(14) + bytes((n,)) for n in range(1, 4)]
MACS = bytes.fromhex("027700000002027700000001")


def ethernet(payload: bytes, *types: int, tags: tuple[int, ...] = ()) -> bytes:
    """``types`` is the type of each tag and of the payload, ``tags`` the VLAN ids."""
    head = MACS + struct.pack("!H", types[0])
    for tag, type in zip(tags, types[1:], strict=True):
        head += struct.pack("!HH", tag, type)
    return head + payload


def ipv4(
    payload: bytes, proto: int, *, options: bytes = b"", fragment: int = 0, way: int = 0
) -> bytes:
    source, destination = HOSTS4[way], HOSTS4[1 - way]
    head = struct.pack(
        "!BBHHHBBH",
        0x40 | 5 + len(options) // 4,
        0,
        20 + len(options) + len(payload),
        77,
        fragment,
        64,
        proto,
        0,
    )
    return head + source + destination + options + payload


def ipv6(payload: bytes, proto: int, *extensions: tuple[int, bytes], way: int = 0) -> bytes:
    """``extensions``: (type, header without its first byte), the outermost first."""
    chain = b""
    for at, (_, rest) in enumerate(extensions):
        following = extensions[at + 1][0] if at + 1 < len(extensions) else proto
        chain += bytes((following,)) + rest
    first = extensions[0][0] if extensions else proto
    head = struct.pack("!IHBB", 0x60000000, len(chain + payload), first, 64)
    return head + HOSTS6[way] + HOSTS6[1 - way] + chain + payload


def tcp(flags: int, *, way: int = 0, options: bytes = b"", data: bytes = b"") -> bytes:
    ports = (40001, 443) if way == 0 else (443, 40001)
    offset = 5 + len(options) // 4
    return struct.pack("!HHIIBBHHH", *ports, 1, 2, offset << 4, flags, 512, 0, 0) + options + data


def udp(data: bytes, port: int = 53, *, way: int = 0) -> bytes:
    ports = (5353, port) if way == 0 else (port, 5353)
    return struct.pack("!HHHH", *ports, 8 + len(data), 0) + data


def echo(type: int, identifier: int = 7) -> bytes:
    return struct.pack("!BBHHH", type, 0, 0, identifier, 1) + b"abcdefgh"


def sctp(*, way: int = 0) -> bytes:
    ports = (5000, 36412) if way == 0 else (36412, 5000)
    return struct.pack("!HHII", *ports, 1, 0) + b"\0\3\0\x10" + bytes(12)


def error(type: int, code: int, quoted: bytes) -> bytes:
    return struct.pack("!BBHI", type, code, 0, 0) + quoted


def vxlan(inside: bytes, *, flags: int = 0x08000000, number: int = 42, low: int = 0) -> bytes:
    return struct.pack("!II", flags, number << 8 | low) + inside


def geneve(inside: bytes, type: int = BRIDGED, *, options: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack("!BBHI", len(options) // 4, flags, type, 43 << 8) + options + inside


def gre(inside: bytes, type: int, *, flags: int = 0, more: bytes = b"") -> bytes:
    return struct.pack("!HH", flags, type) + more + inside


def _tunnels(way: int) -> Iterator[tuple[int, bytes]]:
    """Tunnels of all kinds, and what only looks like one: protocol and payload."""
    whole4, whole6 = ipv4(tcp(0x18, way=way), TCP, way=way), ipv6(udp(b"in", way=way), UDP, way=way)
    frame4, frame6 = ethernet(whole4, IPV4), ethernet(whole6, IPV6)
    part = ethernet(ipv4(udp(b"part"), UDP, fragment=0x2000), IPV4)
    chain = ipv6(tcp(2), TCP, (HOP, b"\0\5\2\0\0\1\0"), (OPTIONS, b"\0" + b"\1\4" + bytes(4)))
    for inside in (
        *(frame4, frame6, part, ethernet(whole4, VLAN, IPV4, tags=(9,)), ethernet(chain, IPV6)),
        *(ethernet(b"\0\1\x08\0\6\4\0\1" + bytes(20), 0x0806), frame4[:30], frame4[:36]),
        ethernet(ipv4(udp(vxlan(frame4), 4789), UDP), IPV4),
        ethernet(ipv4(error(3, 3, ipv4(udp(b"lost"), UDP)[:28]), ICMP), IPV4),
    ):
        yield UDP, udp(vxlan(inside), 4789)
        yield UDP, udp(geneve(inside, options=b"\1\2\x03\1" + bytes(4)), 6081)
        yield GRE, gre(inside, BRIDGED)
    yield UDP, udp(vxlan(frame4, number=7), 8472, way=way)
    for flags in (0, 0x88001234, 0x80001234, 0x0C000001, 0x08000001, 0x09000000):
        yield UDP, udp(vxlan(frame4, flags=flags), 4789)
    yield UDP, udp(vxlan(frame4, low=1), 4789)
    yield UDP, udp(vxlan(frame4)[:7], 4789)
    for type, inside in ((IPV4, whole4), (IPV6, whole6), (IPV6, whole4), (ERSPAN, frame4)):
        yield UDP, udp(geneve(inside, type), 6081)
        yield GRE, gre(inside, type)
    for flags in (0x80, 0x40, 0x20):
        yield UDP, udp(geneve(frame4, flags=flags), 6081)
    yield UDP, udp(b"\x40" + geneve(frame4)[1:], 6081)  # version 1
    yield UDP, udp(geneve(frame4, options=bytes(252)), 6081)
    for flags, more in (
        *((0x2000, 4), (0x8000, 4), (0x1000, 4), (0xB000, 12), (0x4000, 4), (0x2001, 4)),
        *((0x2800, 4), (0x2080, 4), (0x2100, 4)),
    ):
        yield GRE, gre(whole4, IPV4, flags=flags, more=bytes(range(more)))
    yield GRE, gre(whole4, IPV4, flags=0x2000, more=b"key")[:7]
    yield IPIP, whole4
    yield IPIP, whole4[:19]
    yield IPIP, whole6
    yield IP6, whole6
    yield IP6, chain


def _transports(way: int) -> Iterator[tuple[int, bytes]]:
    """What goes in either IP: protocol and payload, by the client or (way 1) by the server."""
    for flags in (0x02, 0x12, 0x10, 0x11, 0x04):
        yield TCP, tcp(flags, way=way)
    yield TCP, tcp(0x18, way=way, options=b"\1\1\x08\x0a" + bytes(8), data=b"GET / HTTP/1.1\r\n")
    yield UDP, udp(b"question", way=way)
    yield SCTP, sctp(way=way)
    yield ESP, struct.pack("!II", 1, 2) + bytes(16)
    yield from _tunnels(way)
    yield 253, b"experiment"


def _errors4() -> Iterator[bytes]:
    """What quotes a packet: whole, cut short, of all kinds."""
    options = b"\x94\4\0\0"
    for type, code in ((3, 3), (3, 4), (11, 0), (12, 0), (4, 0), (5, 1)):
        yield error(type, code, ipv4(udp(b"lost"), UDP)[:28])
    yield error(3, 1, ipv4(tcp(2), TCP)[:28])
    yield error(3, 1, ipv4(tcp(2), TCP))
    yield error(3, 1, ipv4(tcp(2), TCP, options=options))
    yield error(11, 1, ipv4(udp(b"part"), UDP, fragment=0x2000))
    yield error(11, 1, ipv4(b"the rest", UDP, fragment=0x00B9))
    yield error(3, 3, ipv4(echo(8), ICMP))
    yield error(3, 2, ipv4(bytes(8), ESP))
    yield error(3, 3, ipv4(udp(vxlan(b""), 4789), UDP)[:28])
    for length in (0, 19, 20, 23):
        yield error(3, 3, ipv4(udp(b"lost"), UDP)[:length])


def _errors6() -> Iterator[bytes]:
    hop = (HOP, b"\0\5\2\0\0\1\0")
    for type, code in ((1, 4), (2, 0), (3, 0), (4, 1), (5, 0)):
        yield error(type, code, ipv6(udp(b"lost"), UDP))
    yield error(1, 0, ipv6(tcp(2), TCP, hop))
    yield error(1, 4, ipv6(udp(b"part"), UDP, (FRAGMENT, b"\0\0\1\0\0\0\x4d")))
    yield error(1, 4, ipv6(b"the rest", UDP, (FRAGMENT, b"\0\0\x51\0\0\0\x4d")))
    for length in (39, 40, 43, 44):
        yield error(1, 4, ipv6(udp(b"lost"), UDP)[:length])


def _transports4(way: int) -> Iterator[tuple[int, bytes]]:
    yield from _transports(way)
    yield ICMP, echo(8 - 8 * way)
    yield from ((ICMP, quote) for quote in _errors4())
    yield ICMP, b"\x0d\0\0\0\0\7\0\1" + bytes(12)  # timestamp
    yield 2, b"\x16\0\0\0\xe0\0\0\xfb"  # IGMP


def _transports6(way: int) -> Iterator[tuple[int, bytes]]:
    yield from _transports(way)
    yield ICMP6, echo(128 + way)
    yield from ((ICMP6, quote) for quote in _errors6())
    yield ICMP6, b"\x87\0\0\0" + bytes(20)  # neighbour solicitation


def _packets() -> Iterator[bytes]:
    options = b"\x94\4\0\0" + b"\7\7\4" + bytes(5)
    for way in (0, 1):
        for proto, payload in _transports4(way):
            yield ethernet(ipv4(payload, proto, way=way), IPV4)
            yield ethernet(ipv4(payload, proto, way=way, options=options), IPV4)
        for proto, payload in _transports6(way):
            yield ethernet(ipv6(payload, proto, way=way), IPV6)

        talk = ethernet(ipv4(tcp(0x10, way=way), TCP), IPV4)
        yield talk.replace(HOSTS4[1], HOSTS4[0])  # with oneself: only the ports tell the ends apart

    hop, target = (HOP, b"\0\5\2\0\0\1\0"), (OPTIONS, b"\1" + b"\1\x0c" + bytes(12))
    route = (ROUTING, b"\2\0\0" + bytes(4) + HOSTS6[2])
    first, later = (FRAGMENT, b"\0\0\1\0\0\0\x4d"), (FRAGMENT, b"\0\0\x51\0\0\0\x4d")
    whole, signed = (FRAGMENT, b"\0\0\0\0\0\0\x4d"), (AH, b"\4\0\0" + bytes(20))
    for chain in (
        *((hop,), (target,), (route,), (first,), (later,), (whole,), (signed,)),
        *((hop, route, first), (hop, target, route, signed), (hop, later), (target,) * 5),
        *((target,) * 6, (target,) * 7, (target,) * 12),
    ):
        for proto, payload in ((TCP, tcp(0x10)), (UDP, udp(b"x")), (ICMP6, echo(128))):
            yield ethernet(ipv6(payload, proto, *chain), IPV6)
        tunnel = ethernet(ipv4(tcp(2), TCP), IPV4)
        yield ethernet(ipv6(udp(vxlan(tunnel), 4789), UDP, *chain), IPV6)
    for proto, payload in ((UDP, udp(vxlan(tunnel), 4789)), (IPIP, ipv4(tcp(2), TCP))):
        yield ethernet(ipv4(payload, proto, fragment=0x2000), IPV4)
        yield ethernet(ipv4(payload, proto), VLAN, IPV4, tags=(5,))
    for fragment in (0x2000, 0x2001, 0x00B9, 0x1FFF, 0x4000):
        for proto, payload in ((UDP, udp(b"part")), (TCP, tcp(0x18)), (ICMP, echo(8))):
            yield ethernet(ipv4(payload, proto, fragment=fragment), IPV4)

    for payload, type in ((ipv4(udp(b"x"), UDP), IPV4), (ipv6(tcp(2), TCP, hop), IPV6)):
        yield ethernet(payload, VLAN, type, tags=(0x6064,))
        yield ethernet(payload, VLAN, type, tags=(0,))
        yield ethernet(payload, QINQ, VLAN, type, tags=(200, 100))
        yield ethernet(payload, VLAN, VLAN, type, tags=(0, 100))
        yield ethernet(payload, QINQ, QINQ, type, tags=(200, 300))
        yield ethernet(payload, VLAN, VLAN, VLAN, type, tags=(1, 2, 3))
    yield ethernet(b"\0\1\x08\0\6\4\0\1" + bytes(20), 0x0806)  # ARP
    yield ethernet(b"\0\0\1\xff" + ipv4(udp(b"x"), UDP), 0x8847)  # MPLS
    yield ethernet(b"\x42\x42\3" + bytes(35), 38)  # 802.3 length and LLC: spanning tree
    yield ethernet(b"\2\7\4" + bytes(20), 0x88CC)  # LLDP


CORPUS = tuple(_packets())

_EDGES = bytes((0, 1, 4, 5, 6, 0x0F, 0x40, 0x45, 0x46, 0x4F, 0x60, 0x7F, 0x80, 0xFF))
_NEXT = bytes((HOP, ICMP, TCP, UDP, ROUTING, FRAGMENT, ESP, AH, ICMP6, 59, OPTIONS, SCTP, 135))
LONGEST = 1500


def truncated() -> Iterator[bytes]:
    """Each good packet, cut at each length that still has something after its Ethernet header."""
    for packet in CORPUS:
        for length in range(15, len(packet) + 1):
            yield packet[:length]


def mutated(seed: int) -> Iterator[bytes]:
    """Spoiled packets without end, the same ones for the same seed."""
    source = random.Random(seed)
    below, pick = source.randrange, source.choice
    while True:
        packet = bytearray(pick(CORPUS))
        for _ in range(below(4)):
            how = below(12)
            at = below(12, min(len(packet), pick((96, 150))))
            if how < 4:
                packet[at] ^= 1 << below(8)
            elif how < 6:
                packet[at] = pick(_EDGES)
            elif how == 6:
                packet[at] = below(256)
            elif how == 7:  # what follows is something else: IPv4 protocol, IPv6 next header
                at = pick((20, 23, 24, 27, 54, 58, 73, 84))
                if at < len(packet):
                    packet[at] = pick(_NEXT)
            elif how == 8:  # a lie about lengths, or a fragment's place
                at = pick((16, 18, 20, 22, 24, 38, 42, 46, 56, 70))
                if at + 2 <= len(packet):
                    packet[at : at + 2] = below(65536).to_bytes(2, "big")
            elif how == 9:
                del packet[below(15, len(packet) + 1) :]
            elif how == 10:
                packet += source.randbytes(below(1, 64 if below(8) else 1000))
                del packet[LONGEST:]
            else:  # the head of one packet and the tail of another
                other = pick(CORPUS)
                packet[at:] = other[min(at, len(other) - 1) :]
        if len(packet) >= 15:
            yield bytes(packet)
