"""Good packets to start from, and seeded ways to spoil them. Built by ``struct`` alone: neither the
probes nor the parser they are compared with has a part in it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

IPV4, IPV6, VLAN, QINQ = 0x0800, 0x86DD, 0x8100, 0x88A8
ICMP, TCP, UDP, ROUTING, FRAGMENT, GRE, ESP, AH, ICMP6, OPTIONS, SCTP = (
    *(1, 6, 17, 43, 44, 47, 50, 51, 58, 60, 132),
)
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


def _transports(way: int) -> Iterator[tuple[int, bytes]]:
    """What goes in either IP: protocol and payload, by the client or (way 1) by the server."""
    for flags in (0x02, 0x12, 0x10, 0x11, 0x04):
        yield TCP, tcp(flags, way=way)
    yield TCP, tcp(0x18, way=way, options=b"\1\1\x08\x0a" + bytes(8), data=b"GET / HTTP/1.1\r\n")
    yield UDP, udp(b"question", way=way)
    yield SCTP, sctp(way=way)
    yield GRE, struct.pack("!HH", 0, IPV4) + ipv4(udp(b"inside"), UDP)
    yield ESP, struct.pack("!II", 1, 2) + bytes(16)
    yield UDP, udp(b"\x08\0\0\0\0\0\x2a\0" + ethernet(ipv4(tcp(2), TCP), IPV4), 4789)
    yield UDP, udp(b"\0\0\x65\x58\0\0\x2a\0" + ethernet(ipv6(tcp(2), TCP), IPV6), 6081)
    yield 253, b"experiment"


def _transports4(way: int) -> Iterator[tuple[int, bytes]]:
    yield from _transports(way)
    yield ICMP, echo(8 - 8 * way)
    yield ICMP, error(3, 3, ipv4(udp(b"lost"), UDP)[:28])
    yield ICMP, b"\x0d\0\0\0\0\7\0\1" + bytes(12)  # timestamp
    yield 2, b"\x16\0\0\0\xe0\0\0\xfb"  # IGMP


def _transports6(way: int) -> Iterator[tuple[int, bytes]]:
    yield from _transports(way)
    yield ICMP6, echo(128 + way)
    yield ICMP6, error(1, 4, ipv6(udp(b"lost"), UDP)[:48])
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
            at = below(12, min(len(packet), 96))
            if how < 4:
                packet[at] ^= 1 << below(8)
            elif how < 6:
                packet[at] = pick(_EDGES)
            elif how == 6:
                packet[at] = below(256)
            elif how == 7:  # what follows is something else: IPv4 protocol, IPv6 next header
                at = pick((20, 23, 24, 27, 54, 58))
                if at < len(packet):
                    packet[at] = pick(_NEXT)
            elif how == 8:  # a lie about lengths, or a fragment's place
                at = pick((16, 18, 20, 22, 24, 38, 56))
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
