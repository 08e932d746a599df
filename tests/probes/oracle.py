"""What dpkt, a parser that shares nothing with ours, says of a packet, as the flow it belongs to.

``alone`` is dpkt by itself. Where ours differs on purpose the rule has a name in ``RULES``, and
``read`` puts it to dpkt's decoders one by one and says which it needed. So a difference is either
one of these rules or an error of the probes; the tests check both ways.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import dpkt

from flowobs.schema import Tunnel

RULES = {
    "tags": "two VLAN tags (0x8100, 0x88a8) are read, more are unparsed, other types are no tags;"
    " the first id that is not 0 (which is a mere priority) is the VLAN",
    "mpls": "what is behind MPLS labels is not looked at: not IP",
    "version": "an IP header of another version than its Ethernet type says is unparsed",
    "length": "IP's length fields are not believed: the kernel's own length of a packet counts, and"
    " segmentation offload leaves 0 or less than the truth there",
    "options": "what is inside of an extension header is not judged, only skipped",
    "cut": "of a packet cut short after its addresses what is there counts: the protocol, ports"
    " when there are 4 bytes, TCP's flags when all up to its window is, ICMP's type and code",
    "chain": "the seventh IPv6 extension header in a row is taken for the protocol",
    "fragment": "a later IPv6 fragment is known by its header wherever in the chain that is",
    "esp": "what is encrypted stays closed: ESP is the protocol",
    "offset": "a TCP header that claims to be shorter than 20 bytes has ports and flags all the"
    " same",
    "tunnel": "the packet that VXLAN, Geneve, GRE or IP carries is the one that counts, where it is"
    " IP and the tunnel's header has no flag we do not know; in a tunnel, a tunnel is a flow,"
    " and ARP is not IP",
    "chunks": "of SCTP the ports are read, whatever its chunks are",
}

NOT_IP, UNPARSED, ARP = "not IP", "unparsed", "ARP"
IPV4, IPV6, TAGS, MPLS = 0x0800, 0x86DD, (0x8100, 0x88A8), (0x8847, 0x8848)
HOP, ROUTING, FRAGMENT, ESP, AH, OPTIONS = 0, 43, 44, 50, 51, 60
CHAIN = (HOP, ROUTING, FRAGMENT, AH, OPTIONS)
EXTENSIONS = 6
UDP, GRE, IPIP = 17, 47, {4: IPV4, 41: IPV6}
VXLAN_PORTS, GENEVE_PORT, BRIDGED = (4789, 8472), 6081, 0x6558
ERRORS = {1: (3, 11, 12), 58: (1, 2, 3, 4)}
MAPPED = bytes(10) + b"\xff\xff"


class Reading(NamedTuple):
    """The flow of a packet, seen from its sender; and what else is counted of it."""

    source: bytes
    destination: bytes
    sport: int
    dport: int
    vlan: int
    icmp: int
    proto: int
    family: int
    tunnel: int = Tunnel.none
    tcp_flags: int = 0
    headers: int = 0
    inside: int = 0
    """Where a tunnel's header, or the packet that an ICMP error quotes, may begin."""
    cut: bool = False
    tunnel_id: int = 0
    outer: tuple[bytes, bytes] | None = None

    @property
    def flow(self) -> tuple[Any, ...]:
        """What tells flows apart."""
        return self[:9]


Answer = Reading | str
Firsts = dict[tuple[bytes, bytes, int, int], tuple[int, dict[str, int]]]
"""First fragments by addresses, id and protocol: the protocol behind all headers, and the ports.
A later fragment counts in its packet's flow if the first came before: dpkt looks at one packet."""


class Needed(set[str]):
    """The rules that a packet needed."""

    def rule(self, name: str, applies: bool = True) -> bool:
        assert name in RULES
        if applies:
            self.add(name)
        return applies


def alone(frame: bytes) -> Answer | None:
    """dpkt's own answer; None where it fails (it does on some chains of extension headers)."""
    try:
        eth = dpkt.ethernet.Ethernet(frame)
    except dpkt.UnpackError:  # of tags; dpkt does not raise for what is in an IP packet
        return UNPARSED if _Ethernet(frame).type in dpkt.ethernet._ETH_TYPES_QINQ else NOT_IP
    except (AttributeError, IndexError, TypeError):
        return None
    ip = eth.data
    if not isinstance(ip, dpkt.ip.IP | dpkt.ip6.IP6):
        return UNPARSED if eth._next_type in (IPV4, IPV6) else NOT_IP
    tags = getattr(eth, "vlan_tags", [])
    proto = ip.p if isinstance(ip, dpkt.ip.IP) else getattr(ip, "p", ESP)
    return _reading(ip, proto, _transport(ip.data), tags[0].id if tags else 0)


def _reading(
    ip: Any, proto: int, transport: dict[str, int], vlan: int, headers: int = 0
) -> Reading:
    family, before = (4, MAPPED) if isinstance(ip, dpkt.ip.IP) else (6, b"")
    return Reading(
        before + ip.src,
        before + ip.dst,
        transport.get("sport", 0),
        transport.get("dport", 0),
        vlan,
        transport.get("icmp", 0),
        proto,
        family,
        tcp_flags=transport.get("flags", 0) & 0xFF,
        headers=headers + transport.get("length", 0),
        inside=headers + transport["inside"] if "inside" in transport else 0,
        cut="cut" in transport,
    )


def _transport(data: Any) -> dict[str, int]:
    if isinstance(data, dpkt.icmp.ICMP | dpkt.icmp6.ICMP6):
        request, reply = (8, 0) if isinstance(data, dpkt.icmp.ICMP) else (128, 129)
        if data.type not in (request, reply):
            return {"icmp": data.type << 8 | data.code}
        # an echo request and its reply are one flow
        identifier = data.data.id if isinstance(data.data, dpkt.Packet) else 0
        return {"icmp": request << 8 | data.code, "sport": identifier, "dport": identifier}
    if isinstance(data, dpkt.tcp.TCP | dpkt.udp.UDP | dpkt.sctp.SCTP):
        flags = data.flags if isinstance(data, dpkt.tcp.TCP) else 0
        return {"sport": data.sport, "dport": data.dport, "flags": flags}
    return {}


def _head(kind: type[Any]) -> type[Any]:
    """dpkt's decoder of the fixed part of a header, without what it makes of the rest."""
    return type(kind.__name__, (kind,), {"unpack": dpkt.Packet.unpack, "__init__": _init})


def _init(self: Any, frame: bytes) -> None:
    dpkt.Packet.__init__(self, frame)


_Ethernet, _IP, _IP6 = _head(dpkt.ethernet.Ethernet), _head(dpkt.ip.IP), _head(dpkt.ip6.IP6)
_Extension, _TCP, _SCTP = _head(dpkt.ip6.IP6OptsHeader), _head(dpkt.tcp.TCP), _head(dpkt.sctp.SCTP)
_UDP = dpkt.udp.UDP
# protocol: decoder and its length
_PORTS = {6: (_TCP, 20), 17: (_UDP, 8), 132: (_SCTP, 12)}
_WITH_OPTIONS = {HOP: dpkt.ip6.IP6HopOptsHeader, OPTIONS: dpkt.ip6.IP6DstOptsHeader}


def read(frame: bytes, tags: int = 2, firsts: Firsts | None = None) -> tuple[Answer, Needed]:
    """What a packet should count as after those that filled ``firsts``, and the rules needed."""
    needed = Needed()
    firsts = {} if firsts is None else firsts
    outer = _ethernet(frame, tags, firsts, needed)
    if outer == ARP:
        return NOT_IP, needed
    if isinstance(outer, Reading) and outer.inside and outer.proto not in ERRORS:
        inner = _carried(frame, outer, firsts, needed)
        if needed.rule("tunnel", inner is not None):
            return inner, needed
    return outer, needed


def quoted(frame: bytes, error: Answer, firsts: Firsts) -> Reading | None:
    """The packet of which an ICMP error tells, where the frame is an ``error`` and tells of one
    that its receiver sent.
    """
    if not isinstance(error, Reading) or error.proto not in ERRORS:
        return None
    if error.tunnel or not error.inside:
        return None
    read = _ipv4 if error.proto == 1 else _ipv6
    # it is no fragment to be remembered
    told = read(frame[error.inside :], error.vlan, error.inside, dict(firsts), Needed())
    if not isinstance(told, Reading) or told.cut or told.source != error.destination:
        return None
    return told


def _carried(frame: bytes, outer: Reading, firsts: Firsts, needed: Needed) -> Answer | None:
    found = _tunnel_header(frame[outer.inside :], outer)
    if found is None:
        return None
    kind, number, type, length = found
    at = outer.inside + length
    if type == BRIDGED:
        if len(frame) < at + 14:
            return None
        inner = _ethernet(frame[at:], 2, firsts, needed, at)
    elif type in (*TAGS, 0x0806):
        inner = _tagged(frame[at:], type, 2, at, firsts, needed)
    elif type in (IPV4, IPV6):
        inner = (_ipv4 if type == IPV4 else _ipv6)(frame[at:], 0, at, firsts, needed)
    else:
        return None
    if not isinstance(inner, Reading):
        return NOT_IP if inner == ARP else None
    return inner._replace(
        vlan=outer.vlan,
        tunnel=kind,
        tunnel_id=number,
        outer=(outer.source, outer.destination),
    )


def _tunnel_header(data: bytes, outer: Reading) -> tuple[Tunnel, int, int, int] | None:
    """Kind, number, Ethernet type of what follows, length."""
    if outer.proto in IPIP:
        return Tunnel.ipip, 0, IPIP[outer.proto], 0
    if outer.proto == GRE:
        try:
            head = dpkt.gre.GRE(data[:16])  # its longest header: not what is inside
        except (dpkt.UnpackError, struct.error):
            return None
        if head.flags & ~(dpkt.gre.GRE_CP | dpkt.gre.GRE_KP | dpkt.gre.GRE_SP):
            return None
        return Tunnel.gre, getattr(head, "key", 0), head.p, 4 + 4 * (head.flags >> 12).bit_count()
    if len(data) < 8:
        return None
    first, second, number = data[0], data[1], int.from_bytes(data[4:7], "big")
    if outer.dport in VXLAN_PORTS:
        policy = first == 0x88
        clean = not data[7] and (policy or (first == 0x08 and data[1:4] == bytes(3)))
        return (Tunnel.vxlan, number, BRIDGED, 8) if clean else None
    type, length = int.from_bytes(data[2:4], "big"), 8 + (first & 0x3F) * 4
    return (Tunnel.geneve, number, type, length) if first < 0x40 and second < 0x80 else None


def _ethernet(frame: bytes, tags: int, firsts: Firsts, needed: Needed, before: int = 0) -> Answer:
    eth = _Ethernet(frame)
    return _tagged(eth.data, eth.type, tags, before + 14, firsts, needed)


def _tagged(
    data: bytes, type: int, tags: int, before: int, firsts: Firsts, needed: Needed
) -> Answer:
    rest, vlan = data, 0
    for n in range(tags):
        if type not in TAGS:
            break
        if len(rest) < 4:
            needed.rule("tags", n == 1 and type != 0x8100)
            return UNPARSED
        tag = dpkt.ethernet.VLANtag8021Q(rest[:4])
        needed.rule("tags", not tag.id or (n == 1 and type != 0x8100))
        vlan = vlan or tag.id
        rest, type = rest[4:], tag.type
    if needed.rule("tags", type in TAGS):
        return UNPARSED
    needed.rule("mpls", type in MPLS)
    needed.rule("tags", type in dpkt.ethernet._ETH_TYPES_QINQ)
    if type == IPV4:
        return _ipv4(rest, vlan, before + len(data) - len(rest), firsts, needed)
    if type == IPV6:
        return _ipv6(rest, vlan, before + len(data) - len(rest), firsts, needed)
    return ARP if type == 0x0806 else NOT_IP


def _ipv4(data: bytes, vlan: int, before: int, firsts: Firsts, needed: Needed) -> Answer:
    if len(data) < 20:
        return UNPARSED
    ip = _IP(data)
    if needed.rule("version", ip.v != 4) or ip.hl < 5:
        return UNPARSED
    needed.rule("length", 0 < ip.len < len(data))
    length = ip.hl * 4
    packet = ip.src, ip.dst, ip.id, ip.p
    if ip.offset:
        proto, upper = firsts.get(packet, (ip.p, {}))
        return _reading(ip, proto, upper, vlan, before + length)
    upper = _upper(ip.p, data[length:], needed)
    if ip.mf:
        upper.pop("inside", None)
        firsts[packet] = ip.p, _flow_of(upper)
    return _reading(ip, ip.p, upper, vlan, before + length)


def _flow_of(upper: dict[str, int]) -> dict[str, int]:
    return {name: upper[name] for name in upper if name in ("sport", "dport", "icmp")}


def _ipv6(data: bytes, vlan: int, before: int, firsts: Firsts, needed: Needed) -> Answer:
    if len(data) < 40:
        return UNPARSED
    ip = _IP6(data)
    if needed.rule("version", ip.v != 6):
        return UNPARSED
    rest, next, headers = ip.data, ip.nxt, before + 40
    packet, more, later = (ip.src, ip.dst, 0, 0), False, False
    needed.rule("length", 0 < ip.plen < len(rest))
    for _ in range(EXTENSIONS):
        if next not in CHAIN or later:
            break
        if needed.rule("cut", len(rest) < 8):
            return _reading(ip, next, {"cut": 1}, vlan, headers)
        extension = _Extension(rest)
        length = (extension.len + 1) * 8
        if next == FRAGMENT:
            fragment = dpkt.ip6.IP6FragmentHeader(rest)
            packet = ip.src, ip.dst, fragment.id, fragment.nxt
            length, later, more = 8, fragment.frag_off > 0, more or fragment.m_flag
            needed.rule("fragment", later or extension.nxt in CHAIN)
        elif next == AH:
            length = (extension.len + 2) * 4
            needed.rule("cut", len(rest) < 12)
        elif next in _WITH_OPTIONS:
            needed.rule("options", not _decodes(_WITH_OPTIONS[next], rest))
        next, headers, rest = extension.nxt, headers + length, rest[length:]
    if later:
        proto, upper = firsts.get(packet, (next, {}))
        return _reading(ip, proto, upper, vlan, headers)
    needed.rule("chain", next in CHAIN)
    needed.rule("esp", next == ESP)
    upper = _upper(next, rest, needed)
    if more:
        upper.pop("inside", None)
        firsts[packet] = next, _flow_of(upper)
    return _reading(ip, next, upper, vlan, headers)


def _decodes(kind: type[Any], data: bytes) -> bool:
    try:
        kind(data)
    except dpkt.UnpackError:
        return False
    return True


def _upper(proto: int, data: bytes, needed: Needed) -> dict[str, int]:
    """What is in the transport header, its length, and where something may be inside."""
    if proto == GRE or proto in IPIP:
        return {"inside": 0}
    if proto in _PORTS:
        kind, length = _PORTS[proto]
        if needed.rule("cut", len(data) < length) and len(data) < 4:
            return {"cut": 1}
        head = kind(data.ljust(length, b"\0"))
        if proto == 6:
            if len(data) < 16:
                return _transport(kind(data[:4].ljust(length, b"\0")))
            length = head.off * 4
            needed.rule("offset", length < 20)
        elif proto == 132:
            needed.rule("chunks", not _decodes(dpkt.sctp.SCTP, data))
        wraps = proto == UDP and head.dport in (*VXLAN_PORTS, GENEVE_PORT)
        return _transport(head) | {"length": length} | ({"inside": length} if wraps else {})
    if proto in ERRORS:
        if needed.rule("cut", len(data) < 8) and len(data) < 2:
            return {"cut": 1}
        identifier = data[4:6] if len(data) >= 6 else bytes(2)
        kind = dpkt.icmp.ICMP if proto == 1 else dpkt.icmp6.ICMP6
        tells = {"inside": 8} if data[0] in ERRORS[proto] else {}
        head = _transport(kind(data[:2] + bytes(2) + identifier + bytes(2)))
        return head | {"length": 8} | tells
    return {}
