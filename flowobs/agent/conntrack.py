"""What the kernel's connection tracking translates (NAT), heard over netlink as columns."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowobs.agent import netlink, netns
from flowobs.schema import Protocol

Array = NDArray[Any]

END = np.dtype([("ip", "<u8", 2), ("port", "<u2")])
"""One end: 16 address bytes as two words, and the port; ICMP: the echo identifier."""
TRANSLATION = np.dtype(
    [("source", END), ("virtual", END), ("backend", END), ("snat", END), ("proto", "u1")]
)
"""The source sends to ``virtual``; ``backend`` gets it and sees it come from ``snat``. Without
DNAT, virtual is backend; without SNAT, snat is source."""

_NETFILTER = 12  # NETLINK_NETFILTER
_NEW, _GET, _DESTROY = 0x100, 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
_GROUPS = 1 | 4  # NF_NETLINK_CONNTRACK_NEW, _DESTROY; an update changes no address
_TRANSLATED = 0x10 | 0x20  # IPS_SRC_NAT, IPS_DST_NAT
_CTA_STATUS = 3
_SO_ATTACH_FILTER = 26
_TYPE = struct.Struct("=4xH")
_HEADER_BYTES = 16
_ROW = 192
"""Bytes kept of a message: its header, and both tuples, which come first."""
_ROWS = 4096
_KNOB = Path("/proc/sys/net/netfilter/nf_conntrack_events")


class Changes(NamedTuple):
    """Translations in the order of their events."""

    translations: Array
    """TRANSLATION, shape (n,)."""
    gone: NDArray[np.bool_]
    """The connection is not tracked any more."""


_NOTHING = Changes(np.zeros(0, TRANSLATION), np.zeros(0, np.bool_))


class Conntrack:
    """The translations of the network namespace at ``namespace`` (None: this one)."""

    def __init__(self, namespace: str | None, *, receive_buffer_bytes: int = 4 << 20) -> None:
        self.unreadable = 0
        """Messages of a shape that is not known here."""
        self._namespace = namespace
        self._receive_buffer_bytes = receive_buffer_bytes
        self._rows = np.zeros((_ROWS, _ROW), np.uint8)

    def open(self) -> None:
        """Listen from now on. Raises OSError where the kernel tells of no translations."""

        def sockets() -> tuple[socket.socket, socket.socket]:
            if _KNOB.exists() and _KNOB.read_text().strip() == "0":
                raise OSError(errno.ENODATA, f"events are off: write 2 to {_KNOB}")
            size = self._receive_buffer_bytes
            monitor = netlink.bound_socket(_NETFILTER, _GROUPS, receive_buffer_bytes=size)
            try:
                _only_translated(monitor)
                return monitor, netlink.bound_socket(_NETFILTER, 0, receive_buffer_bytes=size)
            except BaseException:
                monitor.close()
                raise

        self._monitor, self._dump = netns.call(self._namespace, sockets)

    def close(self) -> None:
        self._monitor.close()
        self._dump.close()

    def read(self) -> Changes:
        """What changed since the last call, 4,096 events at most, without waiting.

        Raises OSError with ENOBUFS where the kernel had to leave events out: list all.
        """
        count = 0
        while count < _ROWS:
            try:
                got = self._monitor.recv_into(self._rows[count], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            self._rows[count, got:] = 0
            count += 1
        if not count:
            return _NOTHING
        rows = self._rows[:count]
        known, found = self._parse(rows[:, _HEADER_BYTES:])
        types = rows[known, 4:6].copy().view("<u2")[:, 0]
        return Changes(found, types == _DESTROY)

    def list(self) -> Iterator[Array]:
        """Every translation there is, TRANSLATION, in pieces. Raises OSError."""
        width = _ROW - _HEADER_BYTES
        everything = netlink.dump(self._dump, _GET, bytes(4), "connections")
        bodies = (bytes(m.body[:width]).ljust(width, b"\0") for m in everything)
        while some := b"".join(islice(bodies, _ROWS)):
            yield self._parse(np.frombuffer(some, np.uint8).reshape(-1, width))[1]

    def _parse(self, rows: Array) -> tuple[Array, Array]:
        """(indices, TRANSLATION) of those ``rows`` (what follows the header) that are NAT."""
        indices, found = [], []
        left = len(rows)
        for layout in _LAYOUTS:
            at = np.flatnonzero((rows[:, layout.places] == layout.expected).all(axis=1))
            if at.size:
                left -= len(at)
                mine = layout.read(rows[at])
                nat = (mine["virtual"] != mine["backend"]) | (mine["snat"] != mine["source"])
                indices.append(at[nat])
                found.append(mine[nat])
        self.unreadable += left
        if not found:
            return np.zeros(0, np.intp), np.zeros(0, TRANSLATION)
        order = np.argsort(np.concatenate(indices), kind="stable")
        return np.concatenate(indices)[order], np.concatenate(found)[order]


class _Layout:
    """Where things are in the messages of one address family and kind of protocol.

    The kernel writes both tuples first and always alike (ctnetlink_dump_tuples), so whole columns
    are read at once, where each attribute's header is as expected.
    """

    def __init__(self, family: int, *parts: tuple[int, int]) -> None:
        """``parts``: type and length of the attributes that follow the protocol's number."""
        self._v4 = family == socket.AF_INET
        width = 4 if self._v4 else 16
        addresses = [(1, width), (2, width)] if self._v4 else [(3, width), (4, width)]
        self._icmp = len(parts) == 3
        headers: dict[int, bytes] = {}
        self._at: list[list[int]] = []
        place = 4  # struct nfgenmsg
        for type in (1, 2):  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
            begin, place, values = place, place + 4, []
            for nested, attributes in ((1, addresses), (2, [(1, 1), *parts])):
                inner, place = place, place + 4
                for number, size in attributes:
                    headers[place] = struct.pack("=HH", 4 + size, number)
                    values.append(place + 4)
                    place += 4 + (size + 3 & ~3)
                headers[inner] = struct.pack("=HH", place - inner, nested | 0x8000)
            headers[begin] = struct.pack("=HH", place - begin, type | 0x8000)
            self._at.append(values)
        self.places = np.array([0, *(at + i for at in headers for i in range(4))])
        self.expected = np.frombuffer(bytes([family]) + b"".join(headers.values()), np.uint8)

    def read(self, rows: Array) -> Array:
        found = np.zeros(len(rows), TRANSLATION)
        ends = (("source", "virtual"), ("backend", "snat"))
        for names, (*addresses, proto, first, second) in zip(ends, self._ports(), strict=True):
            for name, at, port in zip(names, addresses, (first, second), strict=True):
                found[name]["ip"] = self._address(rows, at)
                found[name]["port"] = rows[:, port : port + 2].copy().view(">u2")[:, 0]
            found["proto"] = rows[:, proto]
        return found

    def _ports(self) -> list[list[int]]:
        # an echo identifier stands for both ports
        return [[*at[:4], at[3]] if self._icmp else at for at in self._at]

    def _address(self, rows: Array, at: int) -> Array:
        value = np.zeros((len(rows), 16), np.uint8)
        if self._v4:
            value[:, 10:12] = 0xFF
            value[:, 12:] = rows[:, at : at + 4]
        else:
            value[:] = rows[:, at : at + 16]
        return value.view("<u8")


_PORTS = (2, 2), (3, 2)  # CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT
_LAYOUTS = (
    _Layout(socket.AF_INET, *_PORTS),
    _Layout(socket.AF_INET6, *_PORTS),
    _Layout(socket.AF_INET, (4, 2), (5, 1), (6, 1)),  # CTA_PROTO_ICMP_ID, _TYPE, _CODE
    _Layout(socket.AF_INET6, (7, 2), (8, 1), (9, 1)),  # CTA_PROTO_ICMPV6_ID ...
)
ICMP = (Protocol.icmp, Protocol.icmpv6)


def _only_translated(sock: socket.socket) -> None:
    """Have the kernel hold back what is not NAT: on most nodes nearly everything."""
    load_attribute = 0xFFFFF000 + 12  # SKF_AD_OFF + SKF_AD_NLATTR: A = where X is, from A on
    program = (
        (0x01, 0, 0, _CTA_STATUS),  # ldx #CTA_STATUS
        (0x00, 0, 0, _HEADER_BYTES + 4),  # ld #where attributes begin
        (0x20, 0, 0, load_attribute),
        (0x15, 3, 0, 0),  # no status: let it pass
        (0x07, 0, 0, 0),  # tax
        (0x40, 0, 0, 4),  # ld [x + 4]
        (0x45, 0, 1, _TRANSLATED),
        (0x06, 0, 0, 0xFFFFFFFF),
        (0x06, 0, 0, 0),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    fprog = struct.pack("HL", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
