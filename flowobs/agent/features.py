"""THE table of kernel programs: what each hooks into, and what is lost where it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flowobs.agent.bpf import (
    CGROUP_INET4_CONNECT,
    CGROUP_INET4_POST_BIND,
    CGROUP_INET6_CONNECT,
    CGROUP_INET6_POST_BIND,
    CGROUP_INET_SOCK_CREATE,
    CGROUP_INET_SOCK_RELEASE,
)

Kind = Literal["tc", "raw_tp", "tp_btf", "fentry", "kprobe", "kretprobe", "cgroup", "iter"]

FEATURES = {
    "flows": "flow records: who talks to whom, packets and bytes",
    "tcp": "TCP trouble: retransmits, resets, failed connections",
    "drops": "packets dropped by the kernel, with its reason",
    "processes": "the process behind a socket",
    "nat": "client and backend of translated connections, from conntrack over netlink",
}


NO_CGROUP = (
    "no cgroup v2 is mounted here: mount one (mount -t cgroup2 none /sys/fs/cgroup), or give this"
    " container the host's"
)


@dataclass(frozen=True, slots=True)
class Program:
    """One program. ``hook``: ingress or egress, a tracepoint, a kernel function, a cgroup hook, an
    iterator target.
    """

    name: str
    source: str
    kind: Kind
    hook: str
    feature: str
    lost: str
    required: bool = False
    needs: str = ""
    """Program without which this one would tell untruths."""
    instead_of: str = ""
    """Better program, before this one in the table: this one only runs where that is refused."""

    @property
    def core_only(self) -> bool:
        """BCC cannot compile it."""
        return self.source.endswith(".core.bpf.c")

    @property
    def traced(self) -> bool:
        """On a tracepoint or function of the kernel: not run again while it runs on that CPU."""
        return self.kind in ("raw_tp", "tp_btf", "fentry")

    @property
    def object(self) -> str:
        """File name of the compiled object."""
        return self.source.removesuffix(".c") + ".o"

    @property
    def attach_type(self) -> int:
        """The cgroup hook's number, enum bpf_attach_type."""
        return _CGROUP_HOOKS[self.hook]


_CGROUP_HOOKS = {
    "sock_create": CGROUP_INET_SOCK_CREATE,
    "sock_release": CGROUP_INET_SOCK_RELEASE,
    "post_bind4": CGROUP_INET4_POST_BIND,
    "post_bind6": CGROUP_INET6_POST_BIND,
    "connect4": CGROUP_INET4_CONNECT,
    "connect6": CGROUP_INET6_CONNECT,
}

PROGRAMS = (
    Program(
        "flow_ingress",
        "flow.bpf.c",
        "tc",
        "ingress",
        "flows",
        "all traffic that comes in",
        required=True,
    ),
    Program(
        "flow_egress",
        "flow.bpf.c",
        "tc",
        "egress",
        "flows",
        "all traffic that goes out",
        required=True,
    ),
    Program(
        "flow_ingress_l3",
        "flow.bpf.c",
        "tc",
        "ingress",
        "flows",
        "what comes in by links without a link header: tun, WireGuard, PPP, IPIP ...",
    ),
    Program(
        "flow_egress_l3",
        "flow.bpf.c",
        "tc",
        "egress",
        "flows",
        "what goes out by links without a link header",
    ),
    Program(
        "tcp_retransmit",
        "tcp.bpf.c",
        "raw_tp",
        "tcp_retransmit_skb",
        "tcp",
        "retransmit records",
    ),
    Program(
        "tcp_retransmit_synack",
        "tcp.bpf.c",
        "raw_tp",
        "tcp_retransmit_synack",
        "tcp",
        "retransmits of SYN-ACKs",
    ),
    Program(
        "tcp_send_reset",
        "tcp.bpf.c",
        "raw_tp",
        "tcp_send_reset",
        "tcp",
        "reset records of resets that this machine sends",
    ),
    Program(
        "tcp_receive_reset",
        "tcp.bpf.c",
        "raw_tp",
        "tcp_receive_reset",
        "tcp",
        "reset records of resets that this machine receives",
    ),
    Program(
        "tcp_state",
        "tcp.bpf.c",
        "raw_tp",
        "inet_sock_set_state",
        "tcp",
        "fail records: connections refused or timed out; closes of what is given up",
    ),
    Program(
        "skb_drop",
        "drop.bpf.c",
        "raw_tp",
        "kfree_skb",
        "drops",
        "drop records with their reason",
    ),
    Program(
        "skb_drop_plain",
        "drop.bpf.c",
        "raw_tp",
        "kfree_skb",
        "drops",
        "drop records, without a reason",
        instead_of="skb_drop",
    ),
    Program(
        "owner_sock_create",
        "owner.bpf.c",
        "cgroup",
        "sock_create",
        "processes",
        "the process of sockets that do not connect",
    ),
    Program(
        "owner_connect4",
        "owner.bpf.c",
        "cgroup",
        "connect4",
        "processes",
        "the process of inherited IPv4 sockets that connect",
    ),
    Program(
        "owner_connect6",
        "owner.bpf.c",
        "cgroup",
        "connect6",
        "processes",
        "the process of inherited IPv6 sockets that connect",
    ),
    Program(
        "owner_post_bind4",
        "owner.bpf.c",
        "cgroup",
        "post_bind4",
        "processes",
        "the process of IPv4 connections that are accepted and closed at once",
    ),
    Program(
        "owner_post_bind6",
        "owner.bpf.c",
        "cgroup",
        "post_bind6",
        "processes",
        "the process of IPv6 connections that are accepted and closed at once",
    ),
    Program(
        "owner_sock_release",
        "owner.bpf.c",
        "cgroup",
        "sock_release",
        "tcp",
        "fail records of connections that found no route; at once the process that closes one",
        needs="tcp_state",
    ),
    Program(
        "socket_owners",
        "sockets.core.bpf.c",
        "iter",
        "task_file",
        "processes",
        "at once the process of accepted sockets and of older ones: /proc is searched instead",
    ),
    Program(
        "owner_state",
        "adapters.core.bpf.c",
        "tp_btf",
        "inet_sock_set_state",
        "processes",
        "the process of TCP connections that end at once",
        instead_of="owner_connect4",
    ),
    Program(
        "owner_udp4",
        "adapters.core.bpf.c",
        "fentry",
        "udp_sendmsg",
        "processes",
        "the process of IPv4 UDP sockets that are closed at once",
        instead_of="owner_sock_create",
    ),
    Program(
        "owner_udp6",
        "adapters.core.bpf.c",
        "fentry",
        "udpv6_sendmsg",
        "processes",
        "the process of IPv6 UDP sockets that are closed at once",
        instead_of="owner_sock_create",
    ),
    Program(
        "owner_connects4",
        "kprobes.bpf.c",
        "kprobe",
        "tcp_v4_connect",
        "processes",
        "what owner_connected4 needs",
        instead_of="owner_state",
    ),
    Program(
        "owner_connected4",
        "kprobes.bpf.c",
        "kretprobe",
        "tcp_v4_connect",
        "processes",
        "at once the process that makes an IPv4 connection",
        needs="owner_connects4",
        instead_of="owner_state",
    ),
    Program(
        "owner_connects6",
        "kprobes.bpf.c",
        "kprobe",
        "tcp_v6_connect",
        "processes",
        "what owner_connected6 needs",
        instead_of="owner_state",
    ),
    Program(
        "owner_connected6",
        "kprobes.bpf.c",
        "kretprobe",
        "tcp_v6_connect",
        "processes",
        "at once the process that makes an IPv6 connection",
        needs="owner_connects6",
        instead_of="owner_state",
    ),
    Program(
        "owner_accepted",
        "kprobes.bpf.c",
        "kretprobe",
        "inet_csk_accept",
        "processes",
        "at once the process that accepts a connection",
        instead_of="owner_state",
    ),
    Program(
        "owner_released",
        "kprobes.bpf.c",
        "kprobe",
        "inet_release",
        "processes",
        "the process of sockets that are closed at once, TCP and UDP",
        instead_of="owner_udp4",
    ),
)

REQUIRED = frozenset(p.name for p in PROGRAMS if p.required)
