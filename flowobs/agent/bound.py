"""Which socket gets what is sent to an address and port: for those that never send themselves.

No packet tells of a socket that only receives datagrams, nor of a listener whose accepted socket is
gone before anybody looks.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowobs.agent.sockets import Listing
from flowobs.identity import special
from flowobs.identity.keytable import KeyTable

Array = NDArray[Any]

_V4_MAPPED = bytes(10) + b"\xff\xff"
_ANY = {socket.AF_INET: bytes(4), socket.AF_INET6: bytes(16)}
_REST_S = 0.5
_REST = 100
"""Listing rests at least this many times the CPU time it took: a hundredth of a core at most."""
_TRIES = 3
_MAX_VAIN = 4096
_ODD = np.uint64(0x9E3779B97F4A7C15)

_log = logging.getLogger(__name__)


class BoundSockets:
    """Cookies of bound sockets by address, port and protocol; listed again when one is missing.

    ``listings()`` gives network namespaces by inode, with bound sockets only. ``change()`` gives
    another object each time that interfaces came or went: then there may be addresses that are not
    known yet. Where two namespaces have the same address, nobody has it; loopback is that of the
    namespace ``netns``.
    """

    def __init__(
        self,
        listings: Callable[[], Mapping[int, Listing]],
        change: Callable[[], object],
        *,
        netns: int,
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.process_time,
    ) -> None:
        self.readings = 0
        """Times the sockets were listed."""
        self._listings = listings
        self._change = change
        self._netns = netns
        self._clock = clock
        self._cost = cost
        self._next_reading = -np.inf
        self._seen_change: object = None
        self._addresses = KeyTable(1)
        self._near = np.zeros(1 << 16, np.bool_)
        """[mark]: an address of this machine may have it."""
        self._ports = np.zeros(1 << 16, np.bool_)
        """[port]: a socket is bound to it."""
        self._keys = np.zeros(0, np.uint64)
        self._cookies = np.zeros(0, np.uint64)
        self._vain: dict[tuple[bytes, int], int] = {}

    def find(self, proto: Array, addresses: Array, ports: Array) -> NDArray[np.uint64]:
        """Cookies of the sockets at these ends, 0 where none is known: shape (n,).

        ``addresses`` is (n, 16) u1, the others are (n,).
        """
        due = self._clock() >= self._next_reading
        new = due and self._change() is not self._seen_change
        maybe = self._ports.take(ports)
        if new:
            maybe[:] = True
        elif due:
            maybe |= self._near.take(_marks(addresses))
        cookies = np.zeros(len(ports), np.uint64)
        at = maybe.nonzero()[0]
        if not at.size:
            return cookies
        ends = proto.astype(np.uint64) << np.uint64(16) | ports.astype(np.uint64)
        cookies[at], rows = self._look_up(addresses[at], ends[at])
        if due and not cookies[at].all():
            missing = ((cookies[at] == 0) & (rows >= 0)).nonzero()[0]
            _, first = np.unique(_keys(rows[missing], ends[at[missing]]), return_index=True)
            few = at[missing[first]]
            text = [address.tobytes() for address in addresses[few]]
            asked = set(zip(text, ends[few].tolist(), strict=True))
            if new or any(self._vain.get(one, 0) < _TRIES for one in asked):
                self.read()
                cookies, _ = self._look_up(addresses, ends)
                self._give_up(asked)
        return cookies

    def _look_up(
        self, addresses: Array, ends: Array
    ) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        """(cookies, rows of this machine's addresses, or -1)."""
        words = np.ascontiguousarray(addresses).view("<u8")
        rows = self._addresses.find(words[:, 0], words[:, 1])
        cookies = np.zeros(len(ends), np.uint64)
        if len(self._keys):
            wanted = _keys(rows, ends)
            at = np.searchsorted(self._keys, wanted)
            at[at == len(self._keys)] = 0
            found = (rows >= 0) & (self._keys[at] == wanted)
            cookies[found] = self._cookies[at[found]]
        return cookies, rows

    def _give_up(self, asked: set[tuple[bytes, int]]) -> None:
        """Some sockets never come, such as those of virtual machines: three tries, then no more."""
        if len(self._vain) > _MAX_VAIN:
            self._vain.clear()
        for one in asked:
            self._vain[one] = self._vain.get(one, 0) + 1

    def read(self) -> None:
        """List the sockets now."""
        before = self._cost()
        self._seen_change = self._change()
        self.readings += 1
        try:
            found = self._listings()
        except OSError as error:
            _log.warning(
                "sockets that only receive have no owner: the kernel does not list sockets",
                extra={"why": error.strerror or errno.errorcode.get(error.errno or 0, "unknown")},
            )
            self._next_reading = np.inf
            return
        self._take(found)
        self._next_reading = self._clock() + max(_REST_S, _REST * (self._cost() - before))

    def _take(self, listings: Mapping[int, Listing]) -> None:
        holders: dict[bytes, set[int]] = {}
        for inode, one in listings.items():
            for address in one.addresses:
                if inode == self._netns or not special.is_loopback(address):
                    holders.setdefault(address, set()).add(inode)
        own = sorted(address for address, inodes in holders.items() if len(inodes) == 1)
        row = {address: i for i, address in enumerate(own)}
        table = KeyTable(max(len(own), 1))
        words = np.frombuffer(b"".join(own), "<u8").reshape(-1, 2)
        table.add(words[:, 0].copy(), words[:, 1].copy())
        cookies: dict[int, int] = {}
        for inode, one in listings.items():
            here = [row[a] for a in one.addresses if a in row and holders[a] == {inode}]
            for protocol, sockets in (
                (socket.IPPROTO_TCP, one.tcp),
                (socket.IPPROTO_UDP, one.udp),
            ):
                self._bind(cookies, protocol, sockets, row, here, own)
        self._addresses = table
        self._near = np.zeros(1 << 16, np.bool_)
        self._near[_marks(words)] = True
        self._keys = np.array(sorted(cookies), np.uint64)
        self._ports = np.zeros(1 << 16, np.bool_)
        self._ports[self._keys & np.uint64(0xFFFF)] = True
        self._cookies = np.array([cookies[key] for key in sorted(cookies)], np.uint64)

    @staticmethod
    def _bind(
        cookies: dict[int, int],
        protocol: int,
        sockets: Array,
        row: Mapping[bytes, int],
        here: list[int],
        own: list[bytes],
    ) -> None:
        """Who has one address of its own goes before who has all of them, IPv4 before both."""
        general = []
        for family, port, raw, cookie in zip(
            sockets["family"].tolist(),
            sockets["port"].tolist(),
            map(bytes, sockets["address"]),
            sockets["cookie"].tolist(),
            strict=True,
        ):
            address = raw if family == socket.AF_INET6 else raw[:4]
            if address == _ANY.get(family):
                general.append((family, port, cookie))
                continue
            at = row.get(address if family == socket.AF_INET6 else _V4_MAPPED + address)
            if at in here:
                cookies.setdefault(at << 24 | protocol << 16 | port, cookie)
        for family, port, cookie in sorted(general):
            for at in here:
                if family == socket.AF_INET6 or own[at].startswith(_V4_MAPPED):
                    cookies.setdefault(at << 24 | protocol << 16 | port, cookie)


def _keys(rows: Array, ends: Array) -> NDArray[np.uint64]:
    keys: NDArray[np.uint64] = rows.astype(np.uint64) << np.uint64(24) | ends
    return keys


def _marks(addresses: Array) -> NDArray[np.int64]:
    """16 bits of each address: few of other machines' have those of one of ours."""
    words = np.ascontiguousarray(addresses).view("<u8").reshape(-1, 2)
    mixed = words[:, 0] * _ODD
    mixed ^= words[:, 1]
    mixed *= _ODD
    mixed >>= np.uint64(48)
    return mixed.view(np.int64)
