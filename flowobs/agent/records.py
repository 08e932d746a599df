"""Layout of everything the kernel hands us. The C header and the numpy dtypes both come from these
tables.

``python -m flowobs.agent.records`` prints ``probes/records.h``; a test keeps the file equal to it,
and another one
compares the dtypes with the BTF of the compiled object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

RECORD_VERSION = 1

_C_TO_NUMPY = {"u8": "u1", "u16": "<u2", "u32": "<u4", "u64": "<u8"}


@dataclass(frozen=True)
class Struct:
    """A C struct of fixed-width members: (C type or Struct, name, count, comment)."""

    name: str
    doc: str
    members: tuple[tuple[str | Struct, str, int, str], ...]
    packed: bool = field(default=False)

    def c(self) -> str:
        lines = [f"/* {self.doc} */", f"struct {self.name} {{"]
        for type, name, count, comment in self.members:
            text = f"struct {type.name}" if isinstance(type, Struct) else type
            array = f"[{count}]" if count > 1 else ""
            lines.append(f"    {text} {name}{array}; /* {comment} */")
        lines.append("} __attribute__((packed, aligned(4)));" if self.packed else "};")
        return "\n".join(lines)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype; members must be laid out so that C adds no padding (a test compares
        with BTF).
        """
        fields: list[Any] = []
        for type, name, count, _ in self.members:
            one = type.dtype if isinstance(type, Struct) else _C_TO_NUMPY[type]
            fields.append((name, one, (count,)) if count > 1 else (name, one))
        return np.dtype(fields)


# fmt: off
FLOW_KEY = Struct(
    "flow_key",
    "One flow at one interface. Ends a and b are ordered by (address, port): both directions share an entry.",
    (
        ("u8", "addr_a", 16, "IPv4 as ::ffff:a.b.c.d"),
        ("u8", "addr_b", 16, "the other end"),
        ("u16", "port_a", 1, "host order; ICMP echo: the identifier on both sides"),
        ("u16", "port_b", 1, "host order"),
        ("u32", "ifindex", 1, "interface it was seen on"),
        ("u16", "vlan", 1, "VLAN id, 0 = none"),
        ("u16", "icmp", 1, "type << 8 | code; echo replies count as their request"),
        ("u8", "proto", 1, "IP protocol"),
        ("u8", "family", 1, "4 or 6"),
        ("u8", "egress", 1, "1: packets from a to b leave by this interface, 0: they come in"),
        ("u8", "tunnel", 1, "schema.Tunnel: what it was wrapped in; all but ifindex, vlan and egress is from inside"),
    ),
)

FLOW = Struct(
    "flow",
    "What a flow did since the last drain; first what each packet needs. Index 0: from a to b, 1: from b to a.",
    (
        ("u64", "packets", 2, "wire packets: each GSO segment counts"),
        ("u64", "bytes", 2, "wire bytes, link header included"),
        ("u64", "last_ns", 1, "last packet of this interval, CLOCK_MONOTONIC; a tick (at most 10 ms) early but for a direction's first packet and SYN, FIN, RST"),
        ("u8", "tcp_flags", 2, "OR of the TCP flags seen"),
        ("u8", "sampled", 2, "1: srtt_us was read in this interval"),
        ("u8", "initiator", 1, "0: a opened the flow, 1: b did"),
        ("u8", "handshake", 1, "1: SYN and SYN-ACK were seen, the ACK was not"),
        ("u8", "state", 1, "FLOW_* bits"),
        ("u8", "closer", 1, "CLOSER_*: the first FIN, or the RST"),
        ("u8", "fin", 2, "1: that end has sent FIN, in this interval or before"),
        ("u8", "pad", 2, "0"),
        ("u32", "tally", 1, "1 + the number of its struct tally; 0: it has none"),
        ("u64", "cookie", 2, "socket cookie of the sender, where its socket is on this machine"),
        ("u32", "zero_windows", 2, "TCP: packets that tell the other end to stop sending"),
        ("u64", "conn", 1, "where its struct conn is (probes/conns.h)"),
        ("u64", "start_ns", 1, "first packet of the flow"),
        ("u64", "cgroup", 2, "cgroup id of the sender's socket"),
        ("u64", "connect_ns", 1, "TCP: first SYN to the ACK that ends the handshake, 0 = not seen"),
        ("u32", "rtt_ns", 2, "TCP: round trip from here to that end and back, in the handshake"),
        ("u32", "srtt_us", 2, "TCP: smoothed RTT of the sender's socket, where it is on this machine"),
        ("u32", "tunnel_id", 2, "VNI or GRE key on the way from a to b, and back"),
        ("u64", "tunnel_ends", 4, "two addresses: of the tunnel's end on the side of a, and of the other one"),
    ),
)

TALLY = Struct(
    "tally",
    "Packets of a flow besides those on its entry (probes/tallies.h): half a cache line.",
    (
        ("u64", "name", 1, "a secret hash of the flow's key; 0: it is nobody's"),
        ("u64", "counts", 2, "as in struct flow: packets << 40 | bytes"),
        ("u32", "last", 1, "as last_ns in struct flow: of its bits those from 20 to 51"),
        ("u8", "tcp_flags", 2, "as in struct flow"),
        ("u8", "ready", 2, "1: packets of that direction need no more than to be counted"),
    ),
)

CONN = Struct(
    "conn",
    "What must outlive a drain. Losing one costs a label and never a count.",
    (
        ("u64", "start_ns", 1, "first packet of the flow"),
        ("u64", "last_ns", 1, "last time an interval began with it"),
        ("u64", "connect_ns", 1, "as in struct flow"),
        ("u64", "mark_ns", 1, "the last SYN, or SYN-ACK, of a handshake that is not over"),
        ("u64", "cookie", 2, "as in struct flow: an interval may see one sender only"),
        ("u32", "rtt_ns", 2, "as in struct flow"),
        ("u8", "handshake", 1, "HANDSHAKE_* bits"),
        ("u8", "initiator", 1, "as in struct flow"),
        ("u8", "state", 1, "FLOW_* bits"),
        ("u8", "fin", 2, "as in struct flow"),
        ("u8", "closer", 1, "as in struct flow"),
        ("u8", "pad", 2, "0"),
    ),
)

EVENT = Struct(
    "event",
    "An edge in a flow's life. 116 bytes make a 128-byte perf record.",
    (
        ("u8", "version", 1, "RECORD_VERSION"),
        ("u8", "kind", 1, "schema.Kind"),
        ("u8", "initiator", 1, "as in struct flow"),
        ("u8", "direction", 1, "the packet went 0: from a to b, 1: from b to a"),
        ("u32", "reason", 1, "kind drop: the kernel's drop reason; fail: the socket's errno; icmp_error: type << 8 | code"),
        ("u64", "time_ns", 1, "CLOCK_MONOTONIC"),
        (FLOW_KEY, "key", 1, "ifindex is 0 where no interface is known"),
        ("u64", "cookie", 2, "socket cookies of a and b, 0 = unknown"),
        ("u64", "cgroup", 2, "cgroup ids of a and b, 0 = unknown; kind icmp_error: the address of who sent it"),
        ("u32", "netns", 1, "inode of the network namespace, 0 = that of the interface"),
        ("u32", "held", 1, "like events held back that this one stands for, besides itself"),
        ("u32", "pid", 1, "process id, only where the hook runs in that process; else 0"),
        ("u8", "tcp_flags", 2, "flags of the packet, per direction"),
        ("u8", "closer", 1, "kind close: CLOSER_*"),
        ("u8", "state", 1, "as in struct flow"),
        ("u32", "length", 1, "bytes of the packet"),
    ),
    packed=True,
)

OWNER = Struct(
    "owner",
    "Who holds a socket.",
    (
        ("u32", "pid", 1, "process id (tgid)"),
        ("u32", "uid", 1, "user id"),
        ("u64", "cgroup", 1, "cgroup v2 id"),
        ("u32", "inherited", 1, "1: this is the listener's owner, who accepts may be another"),
        ("u32", "pad", 1, "0"),
        ("u8", "comm", 16, "command name of the process (not of a thread), NUL-padded"),
    ),
)

LIMIT = Struct(
    "limit",
    "Rate limit of one flow and event kind.",
    (
        ("u64", "since_ns", 1, "start of the current second"),
        ("u32", "sent", 1, "events let through in it"),
        ("u32", "pad", 1, "0"),
    ),
)

HELD_KEY = Struct(
    "held_key",
    "Events that the drain tells of as one.",
    (
        (FLOW_KEY, "key", 1, "as in struct event"),
        ("u32", "reason", 1, "as in struct event"),
        ("u32", "netns", 1, "as in struct event"),
        ("u8", "kind", 1, "as in struct event"),
        ("u8", "direction", 1, "as in struct event"),
        ("u8", "pad", 6, "0"),
    ),
)

RETRANSMITS = Struct(
    "retransmits",
    "TCP segments that were sent again since the last drain, keyed without interface.",
    (("u32", "segments", 2, "0: by a, 1: by b"),),
)

COUNT = Struct(
    "count",
    "Packets and bytes.",
    (("u64", "packets", 1, "wire packets"), ("u64", "bytes", 1, "wire bytes")),
)

STATS_SIZE = 16
"""A power of two."""

CPU_STATS = Struct(
    "stats",
    "What the programs of one CPU counted.",
    ((COUNT, "counts", STATS_SIZE, "by STAT_*"),),
)

CONTROL = Struct(
    "control",
    "What user space tells the programs while they run, and what these need for each packet.",
    (
        ("u64", "secrets", 6, "even numbers that nobody else knows, one for each word of a key"),
        ("u32", "first_place", 1, "of the tallies that go with the flow map to write to; 0: flows_0"),
        ("u32", "places", 1, "tallies in use from there: with few flows a few pages of memory"),
        ("u32", "tick", 1, "the programs' own: jiffies when tick_ns was read"),
        ("u32", "seed", 1, "of hashes: nobody else can tell which flows share a place"),
        ("u64", "tick_ns", 1, "CLOCK_MONOTONIC; 0: not read yet"),
        ("u32", "retransmits", 1, "the map of retransmits to write to: it turns later"),
        ("u32", "pad", 1, "0"),
    ),
)

SOCKET_OWNER = Struct(
    "socket_owner",
    "One row of the socket iterator.",
    (("u64", "cookie", 1, "socket cookie"), (OWNER, "owner", 1, "who holds it")),
)

STRUCTS = (
    FLOW_KEY, FLOW, TALLY, CONN, EVENT, OWNER, SOCKET_OWNER, LIMIT, HELD_KEY, RETRANSMITS, COUNT, CPU_STATS,
    CONTROL,
)

FLOW_STATE = {
    "FLOW_OPENED": (1, "the flow's opening was seen: SYN, or the first packet where there are no connections"),
    "FLOW_OPEN_LATE": (2, "the drain tells of the opening: the ring was full, or it is in a tunnel"),
    "FLOW_CLOSED_BEFORE": (4, "it had ended before this interval: what is counted here are stragglers"),
    "FLOW_GUESSED": (8, "the initiator is a guess from the port numbers"),
    "FLOW_BROADCAST": (16, "to everybody on the link, as its link header says"),
}
"""A flow has ended in an interval when both ``fin`` are set or ``closer`` is a RST, and not
FLOW_CLOSED_BEFORE.
It is read after the drain's grace period, so that two CPUs that see the two FINs at once cannot
miss it."""

CLOSER = {
    "CLOSER_NONE": (0, "still open"),
    "CLOSER_FIN_A": (1, "a sent the first FIN"),
    "CLOSER_FIN_B": (2, "b sent the first FIN"),
    "CLOSER_RST_A": (3, "a sent RST"),
    "CLOSER_RST_B": (4, "b sent RST"),
    "CLOSER_TIMEOUT": (5, "a local socket gave up: the other end no longer answers"),
    "CLOSER_UNREACHABLE": (6, "a local socket gave up: there is no way to the other end"),
}

HANDSHAKE = {
    "HANDSHAKE_ANSWERED": (1, "SYN-ACK was seen"),
    "HANDSHAKE_REPEATED": (2, "what mark_ns tells of was sent again: no telling which was answered"),
}

STATS = {
    "STAT_NOT_IP": (0, "packets that are not IP (ARP, LLDP ...)"),
    "STAT_UNPARSED": (1, "packets whose IP header is cut short or broken, or behind more VLAN tags than we read"),
    "STAT_MAP_FULL": (2, "packets whose flow found no room in the flow map"),
    "STAT_EVENT_SENT": (3, "events written to the ring"),
    "STAT_EVENT_LOST": (4, "events the ring had no room for"),
    "STAT_EVENT_HELD": (5, "events held back by a rate limit or a full ring: the next drain tells of them"),
    "STAT_OPEN_LATE": (6, "openings the ring had no room for: the next drain tells of them"),
    "STAT_HELD_FULL": (7, "events held back that found no room in their map: nobody tells of them"),
    "STAT_RETRANSMITS_FULL": (8, "segments sent again whose flow found no room in the map of retransmits"),
    "STAT_FORGOTTEN": (9, "connections that were not remembered until they ended: they may open again"),
}
"""Which of the counts of ``struct stats``, of which there is one on each CPU."""

_KINDS = (
    *("open", "update", "close", "drop", "retransmit", "reset", "fail", "lost", "icmp_error"),
)
_TUNNELS = ("vxlan", "geneve", "ipip", "gre")


# fmt: on
def header() -> str:
    """The text of probes/records.h."""
    from flowobs.schema import Kind, Tunnel

    defines = [f"#define RECORD_VERSION {RECORD_VERSION}", f"#define STATS_SIZE {STATS_SIZE}"]
    defines += [f"#define KIND_{name.upper()} {int(Kind[name])}" for name in _KINDS]
    defines += [f"#define TUNNEL_{name.upper()} {int(Tunnel[name])}" for name in _TUNNELS]
    for table in (FLOW_STATE, CLOSER, HANDSHAKE, STATS):
        defines += [f"#define {name} {value} /* {doc} */" for name, (value, doc) in table.items()]
    return "\n".join(
        [
            "/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */",
            "/* Generated by python -m flowobs.agent.records: do not edit. */",
            "#pragma once",
            "",
            *defines,
            "",
            *(f"{s.c()}\n" for s in STRUCTS),
        ]
    )


if __name__ == "__main__":
    print(header(), end="")
