"""Which of the kernel's drop reasons are worth a record: by name, because the numbers move between
kernels.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

import numpy as np

from flowobs.agent import bpf

NOISE = frozenset(
    {
        "NOT_DROPPED_YET",
        "CONSUMED",
        # frames on the wire that were never meant for us
        "OTHERHOST",
        "UNHANDLED_PROTO",
        "IPV6_NDISC_NS_OTHERHOST",
        "PACKET_SOCK_ERROR",
        # what TCP and sockets throw away in the course of a healthy connection
        "QUEUE_PURGE",
        "SOCKET_CLOSE",
        "TCP_OLD_DATA",
        "TCP_OLD_ACK",
        "TCP_OLD_SEQUENCE",
        "TCP_OFOMERGE",
        "TCP_RESET",
        "TCP_CLOSE",
        "UNIX_DISCONNECT",
        "UNIX_SKIP_OOB",
    }
)
"""Reasons that say nothing about a failure. They are left out in the kernel."""


NOT_ECHO = frozenset({"NO_SOCKET"})
"""Reasons that say nothing about a ping: its raw socket has got its copy of the reply when the
kernel finds no ping socket for it (``ping_rcv``)."""

BY_ROUTE = frozenset({"NOT_SPECIFIED"})
"""No reason was given: most are not drops of packets that anybody waits for. But some routes have
the kernel forward nothing, and it gives no reason (``ip_error``, ``dst_discard``)."""

_MOST = 512
"""The kernel's reasons, at most: DROP_REASONS of ``probes/drop.bpf.c``."""
ROUTES: Mapping[int, str] = {
    _MOST + errno.EACCES: "route_prohibit",
    _MOST + errno.EINVAL: "route_blackhole",
    _MOST + errno.EHOSTUNREACH: "route_unreachable",
}
"""What the program says then."""

NO_REASONS: Mapping[int, str] = {0: "unknown"}
"""What a kernel without reasons has (before 5.17)."""


def fill_filter(map_fd: int, reasons: Mapping[int, str]) -> None:
    """Have the program tell of every reason of the running kernel that is not NOISE: always (1), of
    those of NOT_ECHO where it is no ping (2), of those of BY_ROUTE where a route is why (3)."""
    for number, name in reasons.items():
        if number < _MOST:
            wanted = int(name not in NOISE) + (name in NOT_ECHO) + 2 * (name in BY_ROUTE)
            bpf.update(map_fd, np.uint32(number), np.uint32(wanted))
