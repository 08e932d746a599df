"""Endpoints that share an address, told apart by the owner of the local socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowobs.batch import Endpoints
from flowobs.identity.keytable import KeyTable
from flowobs.identity.resolver import Resolver
from flowobs.identity.source import Socket
from flowobs.memory import zeros

_OWNER_SHIFT = np.uint64(32)
_BASE_MASK = (1 << 32) - 1


class SharerTable:
    """Remembers which endpoint an owner makes of a shared address's endpoint.

    ``clear`` must be called when the resolver's generation, the endpoint table or the numbers of
    owners change. At most ``capacity`` pairs are kept; when it is full it starts afresh.
    """

    def __init__(self, resolver: Resolver, capacity: int = 1 << 16) -> None:
        self._resolver = resolver
        self._table = KeyTable(capacity)
        self._row = zeros(capacity, np.uint32)
        self._asked: dict[tuple[int, Socket], int] = {}

    def clear(self) -> None:
        self._table.clear()
        self._asked.clear()

    def lookup(
        self,
        base: NDArray[Any],
        owner: NDArray[Any],
        cgroup: NDArray[Any],
        endpoints: Endpoints,
        socket: Callable[[int, int], Socket],
    ) -> NDArray[np.uint32]:
        """Endpoint rows, shape (n,), for endpoint rows ``base``, owner numbers and cgroup ids.

        ``socket(owner, cgroup)`` describes one distinct owner.
        """
        keys = np.empty((len(base), 2), np.uint64)
        keys[:, 0] = owner.astype(np.uint64) << _OWNER_SHIFT | base
        keys[:, 1] = cgroup
        at = self._table.find(keys[:, 0], keys[:, 1])
        rows = self._row.take(at, mode="wrap")
        missed = (at < 0).nonzero()[0]
        if missed.size:
            names = keys[missed].view("V16")[:, 0]
            _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
            distinct = keys[missed[first]]
            told = np.zeros(len(distinct), np.uint32)
            for i, (pair, cgroup_id) in enumerate(distinct.tolist()):
                told[i] = self._ask(pair & _BASE_MASK, socket(pair >> 32, cgroup_id), endpoints)
            rows[missed] = told[inverse]
            self._remember(distinct, told)
        return rows

    def _ask(self, base: int, socket: Socket, endpoints: Endpoints) -> int:
        """A process is asked for once, however many sockets it opens."""
        row = self._asked.get((base, socket))
        if row is None:
            if len(self._asked) >= self._table.capacity:
                self._asked.clear()
            row = endpoints.id(self._resolver.by_socket(endpoints[base], socket))
            self._asked[base, socket] = row
        return row

    def _remember(self, keys: NDArray[Any], rows: NDArray[np.uint32]) -> None:
        if len(keys) > self._table.room:
            self._table.clear()
        keys, rows = keys[: self._table.room], rows[: self._table.room]
        self._row[self._table.add(keys[:, 0], keys[:, 1])] = rows
