"""Segments sent again, put on the records of their flows.

The kernel counts them by socket, without interface: each observation point's record gets them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowobs.agent.records import FLOW_KEY
from flowobs.identity import special

Array = NDArray[Any]

_KEY = np.dtype(f"V{FLOW_KEY.dtype.itemsize}")
_DRAINS = 3
"""A segment may be counted in one interval and pass an interface in the next one."""


class Retransmits:
    """Counts that wait for their flows. ``netns``: inode of the observed network namespace.

    Loopback addresses mean another machine in each namespace; other addresses are one flow wherever
    it is seen, so that a pod's retransmits are on the records of its veth.
    """

    _keys: Array
    _segments: Array
    _left: Array
    _seen: Array

    def __init__(self, netns: int) -> None:
        self._netns = netns
        self._forget()

    def begin(self, keys: Array, counts: Array) -> None:
        """A drain begins, with what the kernel has counted: dtypes FLOW_KEY and RETRANSMITS."""
        waiting = ~self._seen & (self._left > 1)
        if not len(keys) and not waiting.any():
            self._forget()
            return
        keys, counts = self._ours(keys, counts)
        both = np.concatenate((self._keys[waiting], _without_place(keys)))
        segments = np.concatenate((self._segments[waiting], counts["segments"]))
        left = np.concatenate((self._left[waiting] - 1, np.full(len(keys), _DRAINS, np.uint8)))
        self._keys, at = np.unique(both, return_inverse=True)
        self._segments = np.zeros((len(self._keys), 2), np.uint32)
        np.add.at(self._segments, at, segments)
        self._left = np.zeros(len(self._keys), np.uint8)
        np.maximum.at(self._left, at, left)
        self._seen = np.zeros(len(self._keys), np.bool_)

    def of(self, keys: Array) -> NDArray[np.uint32]:
        """Segments that a and b of each of these flows have sent again, shape (n, 2)."""
        segments = np.zeros((len(keys), 2), np.uint32)
        if len(self._keys):
            wanted = _without_place(keys)
            at = np.searchsorted(self._keys, wanted)
            at[at == len(self._keys)] = 0
            rows = np.flatnonzero(self._keys[at] == wanted)
            segments[rows] = self._segments[at[rows]]
            self._seen[at[rows]] = True
        return segments

    def _forget(self) -> None:
        self._keys = np.zeros(0, _KEY)
        self._segments = np.zeros((0, 2), np.uint32)
        self._left = np.zeros(0, np.uint8)
        self._seen = np.zeros(0, np.bool_)

    def _ours(self, keys: Array, counts: Array) -> tuple[Array, Array]:
        foreign = np.flatnonzero(keys["ifindex"] != self._netns).tolist()
        loopback = [i for i in foreign if special.is_loopback(keys["addr_a"][i].tobytes())]
        return np.delete(keys, loopback), np.delete(counts, loopback)


def _without_place(keys: Array) -> Array:
    """Keys as bytes, the same wherever the flow is seen."""
    plain = keys.copy()
    for name in ("ifindex", "vlan", "egress", "tunnel"):
        plain[name] = 0
    return np.ascontiguousarray(plain).view(_KEY)
