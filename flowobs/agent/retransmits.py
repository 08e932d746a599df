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
_DRAINS = 120
"""A segment may be counted in one interval and its packets in another; then its flow's next one
has it, and every connection ends with one. What nobody observes has none."""


class Retransmits:
    """Counts that wait for their flows. ``netns``: inode of the observed network namespace.

    ``most`` may wait beside those that just came; those that have waited longest go. It is what one
    map holds: packets of all of them may have come just after their drain.

    Loopback addresses mean another machine in each namespace; other addresses are one flow wherever
    it is seen, so that a pod's retransmits are on the records of its veth.
    """

    def __init__(self, netns: int, most: int) -> None:
        self._netns = netns
        self._most = most
        self._keys = np.zeros(0, _KEY)
        self._segments = np.zeros((0, 2), np.uint32)
        self._left = np.zeros(0, np.uint8)
        self._seen = np.zeros(0, np.bool_)
        self._gave: list[Array] = []
        self._late_keys = self._had = self._keys
        self._late_segments = self._segments
        self._ports = np.zeros(1 << 16, np.bool_)
        """[port_a ^ port_b]: a count may wait for such a flow."""

    def begin(self, keys: Array, counts: Array) -> None:
        """A drain begins, with what the kernel has counted: dtypes FLOW_KEY and RETRANSMITS."""
        if not (len(keys) or len(self._keys) or len(self._late_keys) or self._gave):
            return
        # One interface may have had the packet just before the drain, the next one just after it.
        self._late_keys, self._late_segments = self._keys[self._seen], self._segments[self._seen]
        self._had = np.unique(np.concatenate(self._gave)) if self._gave else self._keys[:0]
        self._gave = []
        keys, counts = self._ours(keys, counts)
        waiting = (~self._seen & (self._left > 1)).nonzero()[0]
        waiting = waiting[np.argsort(self._left[waiting], kind="stable")][-self._most :]
        both = np.concatenate((self._keys[waiting], _without_place(keys)))
        segments = np.concatenate((self._segments[waiting], counts["segments"]))
        left = np.concatenate((self._left[waiting] - 1, np.full(len(keys), _DRAINS, np.uint8)))
        self._keys, at = np.unique(both, return_inverse=True)
        self._segments = np.zeros((len(self._keys), 2), np.uint32)
        np.add.at(self._segments, at, segments)
        self._left = np.zeros(len(self._keys), np.uint8)
        np.maximum.at(self._left, at, left)
        self._seen = np.zeros(len(self._keys), np.bool_)
        wanted = np.concatenate((self._keys, self._late_keys)).view(FLOW_KEY.dtype)
        self._ports = np.zeros(1 << 16, np.bool_)
        self._ports[wanted["port_a"] ^ wanted["port_b"]] = True

    def of(self, keys: Array) -> NDArray[np.uint32]:
        """Segments that a and b of each of these flows have sent again, shape (n, 2)."""
        segments = np.zeros((len(keys), 2), np.uint32)
        if not len(self._keys) and not len(self._late_keys):
            return segments
        # by their ports alone, most flows have nothing waiting for them
        maybe = (self._ports[keys["port_a"] ^ keys["port_b"]]).nonzero()[0]
        keys = keys[maybe]
        flows, places = _without_place(keys), keys.view(_KEY)
        rows, at = _found(self._keys, flows)
        segments[maybe[rows]] = self._segments[at]
        self._seen[at] = True
        self._gave.append(places[rows])
        rows, at = _found(self._late_keys, flows)
        had, _ = _found(self._had, places[rows])
        new = np.ones(len(rows), np.bool_)
        new[had] = False
        segments[maybe[rows[new]]] += self._late_segments[at[new]]
        return segments

    def _ours(self, keys: Array, counts: Array) -> tuple[Array, Array]:
        foreign = (keys["ifindex"] != self._netns).nonzero()[0].tolist()
        loopback = [i for i in foreign if special.is_loopback(keys["addr_a"][i].tobytes())]
        return np.delete(keys, loopback), np.delete(counts, loopback)


def _found(table: Array, wanted: Array) -> tuple[Array, Array]:
    """Rows of ``wanted`` that are in ``table``, which is ascending, and where they are there."""
    if not len(table):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    at = np.searchsorted(table, wanted)
    at[at == len(table)] = 0
    rows = (table[at] == wanted).nonzero()[0]
    return rows, at[rows]


def _without_place(keys: Array) -> Array:
    """Keys as bytes, the same wherever the flow is seen."""
    plain = keys.copy()
    for name in ("ifindex", "vlan", "egress", "tunnel"):
        plain[name] = 0
    return np.ascontiguousarray(plain).view(_KEY)
