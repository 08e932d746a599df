"""Where a record was seen, and for which end: interface name and reporter."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowobs.batch import Strings, is_nothing
from flowobs.identity import special
from flowobs.identity.host import SOURCE as HOST
from flowobs.identity.keytable import KeyTable
from flowobs.identity.resolver import Resolver
from flowobs.schema import EndpointKind, Kind, Reporter

Array = NDArray[Any]

_SOCKET_KINDS = np.array([Kind.retransmit, Kind.reset, Kind.fail], np.uint8)
_DROP = np.uint8(Kind.drop)
_MACHINE_KINDS = (EndpointKind.node, EndpointKind.host, EndpointKind.vm)
_MAX_LINKS = 1 << 14
_MAX_GONE = 1 << 12


_TUNNEL, _LOOPBACK, _GUEST, _ADDRESSED, _EGRESS, _SRC_LOCAL, _DST_LOCAL = (
    np.uint8(1 << bit) for bit in reversed(range(7))
)


def _reporter(case: int) -> Reporter:
    """The rule, for one combination of the bits above."""
    src_local, dst_local = bool(case & _SRC_LOCAL), bool(case & _DST_LOCAL)
    if case & _TUNNEL and not (case & _GUEST and not case & _ADDRESSED):
        # What a tunnel carries is seen again outside of it, next to its ends.
        return Reporter.transit
    if case & _LOOPBACK:
        return Reporter.source
    # Inside a pod's own namespace the veth is ours, and we are the near end of it.
    near = bool(case & _ADDRESSED) and (src_local if case & _EGRESS else dst_local)
    if case & _GUEST and not near:
        return Reporter.destination if case & _EGRESS else Reporter.source
    if src_local:
        return Reporter.source
    return Reporter.destination if dst_local else Reporter.transit


_REPORTERS = np.array([_reporter(case) for case in range(128)], np.uint8)


class Link(Protocol):
    """What is asked of a network interface."""

    @property
    def name(self) -> str: ...
    @property
    def loopback(self) -> bool: ...
    @property
    def peer_elsewhere(self) -> bool: ...
    @property
    def addresses(self) -> Set[bytes]: ...
    @property
    def in_subnet(self) -> bool: ...


class Vantage:
    """The interfaces that records were seen on.

    A veth whose peer is in another namespace has a pod or container behind it: one that is on a
    bridge, or routed to, without an address or with one of no subnet. With a subnet there may be
    any number of machines behind it: an uplink (kind's nodes are containers themselves), as where
    an inventory or cluster says that its address is a machine's own.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._links: Mapping[int, Link] = {}
        self._gone: dict[int, Link] = {}
        self._table = KeyTable(_MAX_LINKS)
        # The last element stays empty: it is what row -1, "not in the table", reads.
        self._name = np.zeros(_MAX_LINKS + 1, np.uint32)
        self._link_case = np.zeros(_MAX_LINKS + 1, np.uint8)

    def clear(self, links: Mapping[int, Link]) -> None:
        """Take ``links`` for what is there now; those that went stay known for late records."""
        for ifindex, link in self._links.items():
            if ifindex not in links:
                self._gone[ifindex] = link
        while len(self._gone) > _MAX_GONE:
            del self._gone[next(iter(self._gone))]
        self._links = links
        self._table.clear()

    def see(
        self,
        columns: dict[str, Array],
        ifindex: Array,
        egress: Array,
        local: Array,
        strings: Strings,
    ) -> None:
        """Set ``interface`` and ``reporter``. ``local``, bool (2, n): it is an end of ours."""
        at = self._rows(ifindex, int(columns["time"][0]) if len(ifindex) else 0, strings)
        columns["interface"] = self._name.take(at, mode="wrap")
        src_local, dst_local = local
        # A drop's interface is no observation point: the packet may have come or gone by it.
        nowhere = ((ifindex == 0) | (columns["kind"] == _DROP)).nonzero()[0]
        case = self._link_case.take(at, mode="wrap")
        case[nowhere] = 0
        case |= egress * _EGRESS
        case |= src_local * _SRC_LOCAL
        case |= dst_local * _DST_LOCAL
        if not is_nothing(columns["tunnel"]):
            case |= (columns["tunnel"] != 0) * _TUNNEL
        reporter = _REPORTERS.take(case, mode="wrap")
        if nowhere.size:
            reporter[nowhere] = _without_interface(columns, nowhere, reporter[nowhere])
        columns["reporter"] = reporter

    def _rows(self, ifindex: Array, time_ns: int, strings: Strings) -> NDArray[np.intp]:
        keys = ifindex.astype(np.uint64)
        at = self._table.find(keys)
        if np.count_nonzero(at < 0):
            new = np.unique(keys[at < 0])
            if len(new) > self._table.room:
                self._table.clear()
                new = np.unique(keys)[:_MAX_LINKS]
            rows = self._table.add(new)
            for row, index in zip(rows.tolist(), new.tolist(), strict=True):
                self._describe(row, index, time_ns, strings)
            at = self._table.find(keys)
        return at

    def _describe(self, row: int, ifindex: int, time_ns: int, strings: Strings) -> None:
        link = self._links.get(ifindex) or self._gone.get(ifindex)
        if link is None:
            self._name[row] = strings.id(f"if{ifindex}") if ifindex else 0
            self._link_case[row] = 0
            return
        own = [a for a in link.addresses if not special.is_link_local(a)]
        self._name[row] = strings.id(link.name)
        uplink = link.in_subnet or any(self._machine(a, time_ns) for a in own)
        guest = link.peer_elsewhere and not uplink
        self._link_case[row] = link.loopback * _LOOPBACK | guest * _GUEST | bool(own) * _ADDRESSED

    def _machine(self, address: bytes, time_ns: int) -> bool:
        who = self._resolver.by_address(address, time_ns).endpoint
        return who is not None and who.kind in _MACHINE_KINDS and who.identity_source != HOST


def _without_interface(columns: dict[str, Array], at: Array, reporter: Array) -> Array:
    """Reporters of records of the kernel's stack: ``reporter`` is right for a drop."""
    kind = columns["kind"][at]
    src_socket, dst_socket = columns["src_cookie"][at] != 0, columns["dst_cookie"][at] != 0
    # With one socket known it is that one's record (a reset that came in); else the sender's.
    destination = np.where(src_socket == dst_socket, columns["reply"][at] != 0, dst_socket)
    acted = np.where(destination, Reporter.destination, Reporter.source)
    told = np.where(np.isin(kind, _SOCKET_KINDS), acted, reporter)
    return np.where(kind == Kind.lost, Reporter.unknown, told)
