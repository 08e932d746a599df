"""The few netlink messages the agent needs: links, addresses, tc's clsact queue, conntrack."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22

_GETNSID, _NEWNSID = 90, 88
_NETNSA_NSID, _NETNSA_FD = 1, 3
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP, _DUMP_INTERRUPTED = 0x01, 0x04, 0x300, 0x10
_EXCLUSIVE, _CREATE = 0x200, 0x400
_NEWQDISC, _DELQDISC, _GETTFILTER = 36, 37, 46
_CLSACT = 0xFFFFFFF1
_CLSACT_SIDES = (0xFFFFFFF2, 0xFFFFFFF3)  # ingress, egress
_TCA_KIND = 1
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_SO_RCVBUFFORCE = 33
_AF_BRIDGE = 7

_IFNAME, _IFLINK, _MASTER, _LINKINFO, _EXT_MASK, _NETNSID = 3, 5, 10, 18, 29, 37
_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_SKIP_STATS = 1 << 3
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_LINK_HEADERS = {
    **dict.fromkeys((1, 772), 14),  # ARPHRD_ETHER, LOOPBACK
    # PPP, RAWIP, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, NONE (tun, WireGuard): packets begin with IP
    **dict.fromkeys((512, 519, 768, 769, 776, 778, 823, 0xFFFE), 0),
}
"""Hardware type (linux/if_arp.h) -> bytes of link header."""

_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BBHiII")
_IFADDR = struct.Struct("=BBBBI")
_TCMSG = struct.Struct("=BBHiIII")
_ATTR = struct.Struct("=HH")
_I32 = struct.Struct("=i")
_V4_MAPPED = bytes(10) + b"\xff\xff"


class Message(NamedTuple):
    """One netlink message: ``type``, header ``flags`` and what follows the header."""

    type: int
    flags: int
    body: memoryview


class LinkMessage(NamedTuple):
    """What RTM_NEWLINK or RTM_DELLINK says of a link."""

    ifindex: int
    name: str
    kind: str
    up: bool
    loopback: bool
    link_header: int | None
    master: int
    peer: int
    peer_elsewhere: bool


class AddressMessage(NamedTuple):
    """What RTM_NEWADDR or RTM_DELADDR says of an address of a link."""

    ifindex: int
    address: bytes
    """16 bytes; IPv4 as ::ffff:a.b.c.d."""
    prefix: int
    """Bits of the 128 that its subnet shares; 128: it is in none."""


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram; a length that cannot be true ends it."""
    view, at = memoryview(data), 0
    while len(view) - at >= _HEADER.size:
        length, type, flags, _, _ = _HEADER.unpack_from(view, at)
        if not _HEADER.size <= length <= len(view) - at:
            return
        yield Message(type, flags, view[at + _HEADER.size : at + length])
        at += (length + 3) & ~3


def attributes(view: memoryview) -> dict[int, memoryview]:
    """Attribute number -> value; nested flags are cut off."""
    found: dict[int, memoryview] = {}
    at = 0
    while len(view) - at >= _ATTR.size:
        length, type = _ATTR.unpack_from(view, at)
        if not _ATTR.size <= length <= len(view) - at:
            break
        found[type & 0x3FFF] = view[at + _ATTR.size : at + length]
        at += (length + 3) & ~3
    return found


def _text(value: memoryview | None) -> str:
    return "" if value is None else bytes(value).rstrip(b"\0").decode(errors="replace")


def _int(value: memoryview | None) -> int:
    number: int = 0 if value is None else _I32.unpack_from(value)[0]
    return number


def parse_link(body: memoryview) -> LinkMessage | None:
    """A link, or None for what a bridge says of its ports in messages of the same type."""
    family, _, hardware, ifindex, flags, _ = _IFINFO.unpack_from(body)
    if family == _AF_BRIDGE:
        return None
    found = attributes(body[_IFINFO.size :])
    info = attributes(found.get(_LINKINFO, memoryview(b"")))
    return LinkMessage(
        ifindex=ifindex,
        name=_text(found.get(_IFNAME)),
        kind=_text(info.get(_INFO_KIND)),
        up=bool(flags & _IFF_UP),
        loopback=bool(flags & _IFF_LOOPBACK),
        link_header=_LINK_HEADERS.get(hardware),
        master=_int(found.get(_MASTER)),
        peer=_int(found.get(_IFLINK)),
        peer_elsewhere=_NETNSID in found,
    )


def parse_address(body: memoryview) -> AddressMessage | None:
    """An address, or None for families other than IP."""
    family, prefix, _, _, ifindex = _IFADDR.unpack_from(body)
    found = attributes(body[_IFADDR.size :])
    # On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL, where present, is ours.
    value = bytes(found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS) or b"")
    if family == socket.AF_INET and len(value) == 4:
        return AddressMessage(ifindex, _V4_MAPPED + value, 96 + prefix)
    if family == socket.AF_INET6 and len(value) == 16:
        return AddressMessage(ifindex, value, prefix)
    return None


class DumpInterrupted(OSError):
    """The tables changed while they were read: read them again."""


def open_socket(*, monitor: bool, receive_buffer_bytes: int = 1 << 20) -> socket.socket:
    """An rtnetlink socket of the calling thread's namespace; a monitor hears of every change."""
    groups = _GROUPS if monitor else 0
    return bound_socket(socket.NETLINK_ROUTE, groups, receive_buffer_bytes=receive_buffer_bytes)


def bound_socket(protocol: int, groups: int, *, receive_buffer_bytes: int) -> socket.socket:
    """A netlink socket of the calling thread's namespace that hears of ``groups`` (a mask).

    Raises OSError.
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        if groups:
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer_bytes)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.bind((0, groups))
    except BaseException:
        sock.close()
        raise
    return sock


def links_and_addresses(sock: socket.socket) -> list[Message]:
    """Every link, then every address of the socket's namespace.

    Raises OSError for what the kernel refuses, DumpInterrupted where the tables changed meanwhile.
    """
    without_statistics = struct.pack("=HHI", 8, _EXT_MASK, _SKIP_STATS)
    return [
        *dump(sock, GETLINK, _IFINFO.pack(0, 0, 0, 0, 0, 0) + without_statistics, "links"),
        *dump(sock, GETADDR, _IFADDR.pack(0, 0, 0, 0, 0), "addresses"),
    ]


def is_peer(sock: socket.socket, namespace_fd: int) -> bool:
    """Whether the socket's namespace knows the one behind the fd: the other end of a veth is there.

    Raises OSError where the fd is no network namespace.
    """
    attribute = _ATTR.pack(_ATTR.size + 4, _NETNSA_FD) + _I32.pack(namespace_fd)
    body = b"\0\0\0\0" + attribute  # struct rtgenmsg, padded
    sock.send(_HEADER.pack(_HEADER.size + len(body), _GETNSID, _REQUEST, 1, 0) + body)
    for message in messages(sock.recv(1 << 12)):
        if message.type == _ERROR and (code := -_int(message.body)):
            raise OSError(code, f"the kernel does not tell of a namespace: {os.strerror(code)}")
        if message.type == _NEWNSID:
            return _int(attributes(message.body[4:]).get(_NETNSA_NSID)) >= 0
    return False


def add_clsact(sock: socket.socket, ifindex: int) -> bool:
    """Give a link the queue that tc filters hang on; False where it has one. Raises OSError."""
    kind = b"clsact\0\0"
    body = _TCMSG.pack(0, 0, 0, ifindex, _CLSACT & 0xFFFF0000, _CLSACT, 0)
    body += _ATTR.pack(_ATTR.size + 7, _TCA_KIND) + kind
    try:
        _request(sock, _NEWQDISC, _CREATE | _EXCLUSIVE, body)
    except FileExistsError:
        return False
    return True


def remove_clsact(sock: socket.socket, ifindex: int) -> bool:
    """Remove the queue, unless filters of others hang on it (False). Raises OSError."""
    for side in _CLSACT_SIDES:
        if list(dump(sock, _GETTFILTER, _TCMSG.pack(0, 0, 0, ifindex, 0, side, 0), "filters")):
            return False
    body = _TCMSG.pack(0, 0, 0, ifindex, _CLSACT & 0xFFFF0000, _CLSACT, 0)
    _request(sock, _DELQDISC, 0, body)
    return True


def _request(sock: socket.socket, type: int, flags: int, body: bytes) -> None:
    sock.send(_HEADER.pack(_HEADER.size + len(body), type, _REQUEST | _ACK | flags, 1, 0) + body)
    for message in messages(sock.recv(1 << 16)):
        if message.type == _ERROR and (code := -_int(message.body)):
            raise OSError(code, f"the kernel refused a change of its queues: {os.strerror(code)}")


def dump(sock: socket.socket, type: int, body: bytes, what: str) -> Iterator[Message]:
    """Everything that the kernel lists for a request; ``what`` it is, in words.

    Raises OSError for what the kernel refuses, and at the end DumpInterrupted where what it listed
    changed meanwhile.
    """
    sock.send(_HEADER.pack(_HEADER.size + len(body), type, _REQUEST | _DUMP, 1, 0) + body)
    interrupted = False
    while True:
        for message in messages(sock.recv(1 << 18)):
            interrupted |= bool(message.flags & _DUMP_INTERRUPTED)
            if message.type == _DONE:
                if interrupted:
                    raise DumpInterrupted(
                        errno.EAGAIN, f"{what} change faster than they can be listed: try again"
                    )
                return
            if message.type == _ERROR:
                code = -_int(message.body)
                raise OSError(code, f"the kernel refused to list {what}: {os.strerror(code)}")
            yield message
