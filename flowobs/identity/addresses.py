"""Names for columns of addresses: each distinct one is asked for once, then looked up."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowobs.batch import Endpoint, Endpoints
from flowobs.identity import special
from flowobs.identity.host import SOURCE as HOST
from flowobs.identity.keytable import KeyTable
from flowobs.identity.numbers import Reserved
from flowobs.identity.resolver import SHARED_KINDS, Resolver
from flowobs.identity.source import BEGINNING, END
from flowobs.memory import zeros
from flowobs.schema import EndpointKind

LOCAL = 1
"""The address is set on an interface of the observed namespace, or is a loopback address."""
LOOPBACK = 2
SHARED = 4
"""Many processes can stand behind it: the socket's owner says which one."""
NAMED = 8
"""A source other than the machine itself knows who it is."""

NAMELESS = 16
"""Nobody knows whose it is, though it is an address that somebody could have."""

_ANONYMOUS = (EndpointKind.unknown, EndpointKind.world)
_NOT_HERE = (Reserved.remote_node, Reserved.kube_apiserver, Reserved.world)
"""Identities of what is this machine itself where the address is."""


class Named(NamedTuple):
    """Columns of shape (n,): ``rows`` of the endpoint table, ``flags`` made of the bits above."""

    rows: NDArray[np.uint32]
    flags: NDArray[np.uint8]


class AddressTable:
    """Remembers answers of ``resolver`` as rows of an endpoint table, with the times they hold for.

    ``clear`` must be called when the resolver's generation, the endpoint table or the local
    addresses change. At most ``capacity`` addresses are kept; when it is full it starts afresh
    (``overflows`` counts).
    """

    def __init__(self, resolver: Resolver, capacity: int = 1 << 16) -> None:
        self.resolver = resolver
        self.overflows = 0
        self._table = KeyTable(capacity)
        self._row = zeros(capacity, np.uint32)
        self._flags = zeros(capacity, np.uint8)
        self._start = zeros(capacity, np.int64)
        self._end = zeros(capacity, np.int64)
        self.clear()

    def clear(self) -> None:
        # Times between these two need no look at each address's own.
        self._start_max, self._end_min = BEGINNING, END
        self._table.clear()

    def lookup(
        self, ip: NDArray[Any], time: NDArray[Any], endpoints: Endpoints, local: Set[bytes]
    ) -> Named:
        """Endpoints of the addresses ``ip`` (n, 16) u1 at the times ``time`` (n,) i8, UTC ns."""
        words = np.ascontiguousarray(ip).view("<u8")
        at = self._table.find(words[:, 0], words[:, 1])
        rows = self._row.take(at, mode="wrap")
        flags = self._flags.take(at, mode="wrap")
        missed = at < 0
        if len(time) and not (self._start_max <= time.min() and time.max() < self._end_min):
            missed |= (time < self._start[at]) | (time >= self._end[at])
        pending = missed.nonzero()[0]
        while pending.size:
            keys = words[pending]
            _, first, inverse = np.unique(
                keys.view("V16")[:, 0], return_index=True, return_inverse=True
            )
            answers = self._ask(ip[pending[first]], time[pending[first]], endpoints, local)
            self._remember(keys[first], answers)
            mine = answers[inverse]
            rows[pending], flags[pending] = mine["row"], mine["flags"]
            # An address that changed hands within this batch is asked for once per holder.
            when = time[pending]
            pending = pending[(when < mine["start"]) | (when >= mine["end"])]
        return Named(rows, flags)

    def _ask(
        self, ip: NDArray[Any], time: NDArray[Any], endpoints: Endpoints, local: Set[bytes]
    ) -> NDArray[Any]:
        answers = []
        for address, when in zip(ip.view("V16")[:, 0].tolist(), time.tolist(), strict=True):
            who, start, end = self.resolver.by_address(address, when)
            assert who is not None
            loopback = special.is_loopback(address)
            known = who.kind not in _ANONYMOUS and who.identity_source not in ("", HOST)
            here = loopback or address in local
            if here and who.identity in _NOT_HERE:
                who = who._replace(identity=Reserved.host)
            flags = (
                LOCAL * here
                | LOOPBACK * loopback
                | SHARED * (who.kind in SHARED_KINDS or _of_several(who))
                | NAMED * known
                # pods may have public addresses, too
                | NAMELESS * (who.kind in _ANONYMOUS and not (who.name or who.identity_source))
            )
            answers.append((endpoints.id(who), flags, start, end))
        return np.array(answers, _ANSWER)

    def _remember(self, keys: NDArray[Any], answers: NDArray[Any]) -> None:
        at = self._table.find(keys[:, 0], keys[:, 1])
        new = (at < 0).nonzero()[0]
        if len(new) > self._table.room:
            self.overflows += 1
            self.clear()
            keys, answers = keys[: self._table.capacity], answers[: self._table.capacity]
            at = self._table.add(keys[:, 0], keys[:, 1])
        else:
            at[new] = self._table.add(keys[new, 0], keys[new, 1])
        self._row[at], self._flags[at] = answers["row"], answers["flags"]
        self._start[at], self._end[at] = answers["start"], answers["end"]
        self._start_max = max(self._start_max, int(answers["start"].max()))
        self._end_min = min(self._end_min, int(answers["end"].min()))


def _of_several(who: Endpoint) -> bool:
    """It is a pod whose container is not known by its address."""
    return who.kind == EndpointKind.pod and not who.container


_ANSWER = np.dtype([("row", "<u4"), ("flags", "u1"), ("start", "<i8"), ("end", "<i8")])
