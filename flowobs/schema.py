"""THE table of columns: wire codec, store DDL, API fields and docs all derive from it.

Imports nothing heavy: the CLI reads it too.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 3
"""Raised by one with every change of a column's name, type or wire id."""


class Kind(enum.IntEnum):
    """What a record says happened. Numbers are on the wire and in the store: never reuse one."""

    open = 1
    update = 2
    close = 3
    drop = 4
    retransmit = 5
    reset = 6
    fail = 7
    lost = 8
    icmp_error = 9


class Verdict(enum.IntEnum):
    """Hubble's numbers."""

    unknown = 0
    forwarded = 1
    dropped = 2
    error = 3


class Reporter(enum.IntEnum):
    """For whom a record was taken: the end that is next to the observation point, or neither."""

    unknown = 0
    source = 1
    destination = 2
    transit = 3


class CloseReason(enum.IntEnum):
    """Why a connection ended, or why an attempt failed; the end named is the one that acted."""

    none = 0
    fin_source = 1
    fin_destination = 2
    reset_source = 3
    reset_destination = 4
    refused = 5
    timeout = 6
    unreachable = 7
    aborted = 8


class Tunnel(enum.IntEnum):
    """What a packet was wrapped in where it was seen."""

    none = 0
    vxlan = 1
    geneve = 2
    ipip = 3
    gre = 4


class Cast(enum.IntEnum):
    """To how many a flow's destination address is."""

    unicast = 0
    multicast = 1
    broadcast = 2


class EndpointKind(enum.IntEnum):
    """What stands behind an address or a socket."""

    unknown = 0
    pod = 1
    service = 2
    node = 3
    host = 4
    vm = 5
    external = 6
    world = 7
    container = 8


class Protocol(enum.IntEnum):
    """IP protocol numbers that have a name here; any other is legal and shown in digits."""

    icmp = 1
    igmp = 2
    tcp = 6
    udp = 17
    gre = 47
    icmpv6 = 58
    sctp = 132


ColumnType = Literal["time", "u8", "u16", "u32", "u64", "ip", "string"]
EnumType = type[enum.IntEnum]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a flow record.

    ``wire`` is its id on the wire (never reused); 0 means it does not travel on its own but is
    taken from the record's endpoint (``src_endpoint``/``dst_endpoint``). ``unit`` also says how a
    question writes a value: ns, us and s as 50ms, bytes as 1MB, yes/no, flags as SYN+ACK; a list's
    values (between commas) are asked for one by one.
    """

    name: str
    type: ColumnType
    doc: str
    label: str = ""
    unit: str = ""
    enum: EnumType | None = None
    wire: int = 0
    optional: bool = True
    """Left out of JSON where it is empty or zero."""


# fmt: off
ENDPOINT_COLUMNS: tuple[Column, ...] = (
    Column("kind", "u8", "what it is", "Kind", enum=EndpointKind),
    Column("cluster", "string", "cluster it runs in", "Cluster"),
    Column("namespace", "string", "namespace of the pod or service", "Namespace"),
    Column("name", "string", "name of the pod, service, node, host or external peer", "Name"),
    Column("workload", "string", "name of the workload: Deployment, systemd unit, container ...", "Workload"),
    Column("workload_kind", "string", "kind of the workload", "Workload kind"),
    Column("service", "string", "first service that selects it", "Service"),
    Column("node", "string", "node it runs on", "Node"),
    Column("container", "string", "container name or short id", "Container"),
    Column("identity_source", "string", "which source named it: inventory, host ...", "Named by"),
    Column("zone", "string", "zone of its node", "Zone"),
    Column("labels", "string", "its labels, as k=v separated by commas, sorted", "Labels", "list"),
    Column("services", "string", "every service that selects it, separated by commas", "Services", "list"),
    Column("identity", "u32", "numeric identity of its labels; Hubble's reserved numbers", "Identity"),
)
"""Attributes of one end of a flow. A record carries them twice, as ``src_*`` and ``dst_*``."""


def _ends(wire: int, name: str, type: ColumnType, doc: str, label: str, **kw: object) -> tuple[Column, Column]:
    return (
        Column(f"src_{name}", type, f"source: {doc}", f"Source {label}", wire=wire, **kw),  # type: ignore[arg-type]
        Column(f"dst_{name}", type, f"destination: {doc}", f"Destination {label}", wire=wire + 1, **kw),  # type: ignore[arg-type]
    )


RECORD_COLUMNS: tuple[Column, ...] = (
    Column("time", "time", "when it happened (UTC)", "Time", "ns", wire=1, optional=False),
    Column("kind", "u8", "what happened", "Kind", enum=Kind, wire=2, optional=False),
    Column("verdict", "u8", "what became of the packet", "Verdict", enum=Verdict, wire=3, optional=False),
    Column("reporter", "u8", "for which end it was seen", "Reporter", enum=Reporter, wire=4, optional=False),
    Column("reply", "u8", "1: the packet that made this record (kind=icmp_error: the one that failed) went from destination to source", "Reply", "yes/no", wire=5),
    Column("proto", "u8", "IP protocol", "Protocol", enum=Protocol, wire=6, optional=False),
    *_ends(7, "ip", "ip", "address (in tables of the store IPv4 as ::ffff:a.b.c.d)", "address", optional=False),
    *_ends(9, "port", "u16", "port; ICMP: the echo identifier", "port"),
    Column("icmp_type", "u8", "ICMP type of the flow's first packet; kind=icmp_error: of the error", "ICMP type", wire=11),
    Column("icmp_code", "u8", "ICMP code of the flow's first packet; kind=icmp_error: of the error", "ICMP code", wire=12),
    Column("vlan", "u16", "VLAN id, 0 = untagged", "VLAN", wire=13),
    Column("interface", "string", "interface it was seen on", "Interface", wire=14),
    Column("node", "string", "node whose agent saw it", "Seen on", wire=15),
    Column("packets", "u64", "packets source to destination since this flow's last record here", "Packets", "packets", wire=16, optional=False),
    Column("bytes", "u64", "bytes source to destination, link headers included", "Bytes", "bytes", wire=17, optional=False),
    Column("reply_packets", "u64", "packets destination to source", "Reply packets", "packets", wire=18, optional=False),
    Column("reply_bytes", "u64", "bytes destination to source", "Reply bytes", "bytes", wire=19, optional=False),
    Column("tcp_flags", "u8", "TCP flags seen source to destination, OR-ed", "TCP flags", "flags", wire=20),
    Column("reply_tcp_flags", "u8", "TCP flags seen destination to source, OR-ed", "Reply TCP flags", "flags", wire=21),
    Column("duration", "u64", "first packet to last packet", "Duration", "ns", wire=22),
    Column("drop_reason", "string", "the kernel's drop reason; for kind=lost, where records were lost", "Drop reason", wire=23),
    Column("close_reason", "u8", "how the connection ended or failed", "Close reason", enum=CloseReason, wire=24),
    Column("lost", "u64", "kind=lost: records lost; otherwise: like records held back by rate limits", "Lost", "records", wire=25),
    *_ends(26, "cookie", "u64", "socket cookie of the local socket", "socket"),
    *_ends(28, "cgroup", "u64", "cgroup id of the local socket", "cgroup"),
    *_ends(30, "pid", "u32", "process id of the local socket's owner", "pid"),
    *_ends(32, "process", "string", "command name of the local socket's owner", "process"),
    Column("connect_ns", "u64", "TCP: first SYN to the end of the handshake; where reporter is source, the time its connect() took", "Connect latency", "ns", wire=36),
    *_ends(37, "rtt_ns", "u32", "TCP: round trip in the handshake between here and that end; both together are that between the ends", "handshake RTT", unit="ns"),
    *_ends(39, "srtt_us", "u32", "TCP: smoothed RTT as the local socket measures it", "smoothed RTT", unit="us"),
    Column("retransmits", "u32", "TCP segments that the source's local socket sent again since this flow's last record here", "Retransmits", "segments", wire=41),
    Column("reply_retransmits", "u32", "TCP segments that the destination's local socket sent again", "Reply retransmits", "segments", wire=42),
    Column("zero_windows", "u32", "TCP packets in which the source tells that its receive buffer is full", "Zero windows", "packets", wire=43),
    Column("reply_zero_windows", "u32", "TCP packets in which the destination tells that its receive buffer is full", "Reply zero windows", "packets", wire=44),
    Column("netns", "u32", "kinds drop, retransmit, reset, fail: inode of the network namespace it happened in", "Network namespace", wire=45),
    *_ends(46, "identity_age", "u32", "how long ago its name was last known to be so; 0: it was up to date", "identity age", unit="s"),
    Column("virtual_ip", "ip", "address that the source asked for, where the kernel put a backend (dst_ip) in its place (DNAT)", "Virtual address", wire=48),
    Column("virtual_port", "u16", "port that the source asked for", "Virtual port", wire=49),
    Column("snat_ip", "ip", "address that the destination sees, where the kernel put it in the place of the source's (SNAT, masquerade)", "SNAT address", wire=50),
    Column("snat_port", "u16", "port that the destination sees", "SNAT port", wire=51),
    Column("tunnel", "u8", "what the packets were wrapped in on this interface; source and destination are those inside", "Tunnel", enum=Tunnel, wire=52),
    Column("tunnel_id", "u32", "the tunnel's number: VXLAN and Geneve VNI, GRE key; source to destination where it is another one on the way back", "Tunnel id", wire=53),
    Column("tunnel_src_ip", "ip", "address of the tunnel's end on the source's side", "Tunnel source", wire=54),
    Column("tunnel_dst_ip", "ip", "address of the tunnel's end on the destination's side", "Tunnel destination", wire=55),
    Column("cast", "u8", "to how many the destination address is", "Cast", enum=Cast, wire=56),
    Column("icmp_ip", "ip", "kind=icmp_error: who sent the error", "ICMP sender", wire=57),
)
"""Columns that travel, in store order."""

ENDPOINT_WIRE = {"src_endpoint": 34, "dst_endpoint": 35}
"""Row numbers into the stream's endpoint table (u32)."""

COLUMNS: tuple[Column, ...] = RECORD_COLUMNS + tuple(
    Column(f"{side}_{c.name}", c.type, f"{end}: {c.doc}", f"{end.capitalize()} {c.label.lower()}", c.unit, c.enum)
    for side, end in (("src", "source"), ("dst", "destination"))
    for c in ENDPOINT_COLUMNS
)
"""Every column of the flat record, as the store, the API and the docs show it."""

# fmt: on
BY_NAME: dict[str, Column] = {c.name: c for c in COLUMNS}

TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
"""Names of the bits of ``tcp_flags``, lowest first (RFC 9293)."""


def enum_name(kind: type[enum.IntEnum], number: int) -> str:
    """The name of ``number`` in ``kind``, or the number in digits where it has none."""
    try:
        return kind(number).name
    except ValueError:
        return str(number)
