"""Which tunnel a flow was last seen in: an event has no room for its number and ends."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowobs.agent.records import FLOW_KEY
from flowobs.identity.keytable import KeyTable
from flowobs.memory import zeros

Array = NDArray[Any]

TUNNEL = np.dtype([("tunnel_id", "<u4", 2), ("tunnel_ends", "<u8", 4)])
"""As in FLOW."""
_WORDS = FLOW_KEY.dtype.itemsize // 8


class Tunnels:
    """The last ``capacity`` flows in tunnels, about. Keys are kept as 128 bits of hash."""

    def __init__(self, capacity: int = 16384) -> None:
        self._known = KeyTable(capacity)
        self._tunnels = zeros(capacity, TUNNEL)
        self._odd = np.array(
            [[secrets.randbits(64) | 1 for _ in range(_WORDS)] for _ in range(2)], np.uint64
        )

    def learn(self, keys: Array, flows: Array) -> None:
        """Take in the tunnels of drained flows, dtypes FLOW_KEY and FLOW; keys are distinct."""
        inside = keys["tunnel"].nonzero()[0][-self._known.capacity :]
        if not inside.size:
            return
        a, b = self._hash(keys[inside])
        rows = self._known.find(a, b)
        new = rows < 0
        if np.count_nonzero(new) > self._known.room:
            self._known.clear()
            new[:] = True
        rows[new] = self._known.add(a[new], b[new])
        for name in TUNNEL.fields or ():
            self._tunnels[name][rows] = flows[name][inside]

    def of(self, keys: Array) -> Array:
        """The tunnels of flows, dtype TUNNEL, shape (n,): zero where none is known."""
        rows = self._known.find(*self._hash(keys))
        found: Array = np.where(rows < 0, np.zeros((), TUNNEL), self._tunnels[rows])
        return found

    def _hash(self, keys: Array) -> Array:
        """Two words for each key, shape (2, n)."""
        words = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, _WORDS)
        mixed = words ^ words >> np.uint64(29)
        hashed: NDArray[np.uint64] = (self._odd[:, None, :] * mixed).sum(axis=2, dtype=np.uint64)
        hashed ^= hashed >> np.uint64(32)
        return hashed
