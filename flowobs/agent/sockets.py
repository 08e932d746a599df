"""Open sockets as the kernel lists them (sock_diag), and as /proc says which process holds them."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowobs.agent import netlink, netns
from flowobs.agent.records import SOCKET_OWNER

Array = NDArray[Any]

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBBI48x")  # struct inet_diag_req_v2, linux/inet_diag.h
_CLOSE, _LISTEN = 7, 10
_NO_PROCESS = (3, 6, 12)  # SYN_RECV, TIME_WAIT, NEW_SYN_RECV
_ALL_STATES = 0xFFFFFFFF & ~sum(1 << state for state in _NO_PROCESS)
_BOUND_STATES = 1 << _LISTEN | 1 << _CLOSE

SOCKET = np.dtype(
    {
        "names": ["family", "state", "port", "address", "cookie", "inode"],
        "formats": ["u1", "u1", ">u2", ("u1", 16), "<u8", "<u4"],
        "offsets": [0, 1, 4, 8, 44, 68],
        "itemsize": 72,
    }
)
"""What we read of struct inet_diag_msg, linux/inet_diag.h. IPv4 addresses are the first 4 bytes."""


class Listing(NamedTuple):
    """A network namespace's own addresses, 16 bytes each, and sockets, dtype SOCKET."""

    addresses: frozenset[bytes]
    tcp: Array
    udp: Array


def namespaces() -> dict[int, str]:
    """Network namespaces that have a process: inode -> path."""
    found: dict[int, str] = {}
    for pid in _pids():
        path = f"/proc/{pid}/ns/net"
        try:
            found.setdefault(os.stat(path).st_ino, path)  # noqa: PTH116 (thousands of them)
        except OSError:
            continue  # it has ended
    return found


def listing(path: str, *, bound: bool = False) -> Listing:
    """What is in the namespace at ``path``; ``bound``: only sockets that anybody may send to.

    Raises OSError, also where the kernel has no sock_diag.
    """
    return netns.call(path, partial(_list, _BOUND_STATES if bound else _ALL_STATES))


def listings(paths: Mapping[int, str], *, bound: bool = False) -> dict[int, Listing]:
    """By inode, without those that have gone or change right now. Raises OSError as above."""
    found = {}
    for inode, path in paths.items():
        try:
            found[inode] = listing(path, bound=bound)
        except (FileNotFoundError, ProcessLookupError, netlink.DumpInterrupted):
            continue
    return found


def owners(mount: Path | None) -> Array:
    """Every socket of sock_diag that a process holds, dtype SOCKET_OWNER; ``mount``: of cgroup v2.

    What the iterator does, without it: costs 3 us for each open file of the machine. Where several
    processes hold a socket it is the first one's. Raises OSError as ``listing`` does.
    """
    found = listings(namespaces()).values()
    every = np.concatenate([np.zeros(0, SOCKET), *(part for one in found for part in one[1:])])
    holders = _holders()
    pids = np.array([holders.get(inode, 0) for inode in every["inode"].tolist()], np.uint32)
    rows = np.zeros(len(every), SOCKET_OWNER.dtype)
    rows["cookie"] = every["cookie"]
    rows["owner"]["pid"] = pids
    for pid in np.unique(pids[pids > 0]).tolist():
        mine = pids == pid
        try:
            comm = Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n")[:15]
        except OSError:
            rows["owner"]["pid"][mine] = 0  # it has ended
            continue
        rows["owner"]["comm"][mine] = np.frombuffer(comm.ljust(16, b"\0"), np.uint8)
        rows["owner"]["cgroup"][mine] = _cgroup(pid, mount)
    return rows[rows["owner"]["pid"] > 0]


def _list(states: int) -> Listing:
    with netlink.open_socket(monitor=False) as routes:
        messages = netlink.links_and_addresses(routes)
    parsed = (netlink.parse_address(m.body) for m in messages if m.type == netlink.NEWADDR)
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG) as sock:
        tcp, udp = (
            b"".join(
                bytes(message.body[: SOCKET.itemsize])
                for family in (socket.AF_INET, socket.AF_INET6)
                for message in netlink.dump(
                    sock,
                    _SOCK_DIAG_BY_FAMILY,
                    _REQUEST.pack(family, protocol, 0, 0, states),
                    "sockets",
                )
            )
            for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
        )
    return Listing(
        frozenset(found.address for found in parsed if found),
        np.frombuffer(tcp, SOCKET),
        np.frombuffer(udp, SOCKET),
    )


def _holders() -> dict[int, int]:
    """Socket inode -> process id."""
    found: dict[int, int] = {}
    for pid in _pids():
        folder = f"/proc/{pid}/fd/"
        try:
            fds = os.listdir(folder)  # noqa: PTH208 (thousands of them)
        except OSError:
            continue
        for fd in fds:
            try:
                target = os.readlink(folder + fd)  # noqa: PTH115
            except OSError:
                continue
            if target.startswith("socket:["):
                found.setdefault(int(target[8:-1]), pid)
    return found


def _cgroup(pid: int, mount: Path | None) -> int:
    """The id of a process's cgroup v2; 0 where it cannot be known."""
    if mount is None:
        return 0
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        path = next(line[3:] for line in lines if line.startswith("0::"))
        return (mount / path.lstrip("/")).stat().st_ino
    except (OSError, StopIteration):
        return 0


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208
