"""Translated connections (NAT), found by what is seen on either side of them."""

from __future__ import annotations

import secrets
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowobs.agent.conntrack import END, ICMP, TRANSLATION
from flowobs.batch import writable
from flowobs.identity.keytable import KeyTable
from flowobs.memory import zeros
from flowobs.schema import Kind

Array = NDArray[Any]

TRANSLATED = (
    *("src_ip", "src_port", "dst_ip", "dst_port"),
    *("virtual_ip", "virtual_port", "snat_ip", "snat_port"),
)
"""Columns that ``Translations.translate`` may change."""
_SEEN = ("src_ip", "src_port", "dst_ip", "dst_port", "proto")
STILL_THERE = np.iinfo(np.int64).max
"""The end of a translation that has none."""

_KEEP_NS = 10 * 10**9
"""Translations are kept so long after their end: a flow's last record comes later."""
_LEAST, _MOST = 1 << 12, 1 << 18
_TOLD_BITS = 14


class Translations:
    """What is known of translations, found by what is seen on either side of them.

    Holds two keys for each, ``most`` in all; those that find no room are counted in ``overflow``.
    """

    def __init__(self, most: int = _MOST) -> None:
        self.overflow = 0
        self.learned = self.late = 0
        """Keys that were new, and of these the ones that were ``told`` before."""
        self._most = most
        # Secret: nobody outside can choose connections that meet in one key.
        self._odd = [np.uint64(secrets.randbits(64) | 1) for _ in range(7)]
        self._told = np.zeros(1 << _TOLD_BITS, np.uint64)
        """What was told last: a key's second word, where its first one says."""
        self._make(min(_LEAST, most))

    def _make(self, capacity: int) -> None:
        self._table = KeyTable(capacity)
        self._values = zeros(capacity, TRANSLATION)
        self._begins = zeros(capacity, END)
        """The end that the seen packets of the opening side come from."""
        self._end_ns = zeros(capacity, np.int64)

    def __len__(self) -> int:
        """Keys in the table."""
        return len(self._table)

    def learn(self, found: Array, end_ns: Array) -> None:
        """Take in ``found``, TRANSLATION, and until when (UTC ns) each holds: later ones win."""
        if not len(found):
            return
        found, end_ns = np.concatenate((found, found)), np.concatenate((end_ns, end_ns))
        half = len(found) // 2
        begins, others = found["source"].copy(), found["virtual"].copy()
        begins[half:], others[half:] = found["snat"][half:], found["backend"][half:]
        a, b = self._keys(begins, others, found["proto"])
        # the echo identifier is the source's all the way
        icmp = np.isin(found["proto"], ICMP)
        found["backend"]["port"][icmp] = found["source"]["port"][icmp]
        last = self._last(a, b)
        a, b, found, begins, end_ns = (v[last] for v in (a, b, found, begins, end_ns))
        rows = self._table.find(a, b)
        new = rows < 0
        if new.sum() > self._table.room:
            self._make_room(int(new.sum()))
            rows = self._table.find(a, b)
            new = rows < 0
        at = new.nonzero()[0][: self._table.room]
        rows[at] = self._table.add(a[at], b[at])
        fits = rows >= 0
        self.overflow += len(rows) - int(fits.sum())
        rows = rows[fits]
        self._values[rows], self._begins[rows] = found[fits], begins[fits]
        self._end_ns[rows] = end_ns[fits]
        self.learned += int(np.count_nonzero(new))
        places = self._told_at(a[new])
        late = places[self._told[places] == b[new]]
        self._told[late] = 0
        self.late += len(late)

    def replace(self, found: Array, now_ns: int) -> None:
        """``found`` is all that there is: what is known beyond it holds until ``now_ns``."""
        end_ns = self._end_ns[: len(self._table)]
        np.minimum(end_ns, now_ns, out=end_ns)
        self.learn(found, np.full(len(found), STILL_THERE))

    def translate(self, columns: dict[str, Array]) -> Array:
        """Rewrite the rows that are of a translated flow.

        From the source to the backend, with ``virtual_*`` and ``snat_*`` where they differ. Returns
        the rows of the other openings: their translation may be to come.
        """
        opens = columns["kind"] == np.uint8(Kind.open)
        if not len(self._table):
            untold: Array = opens.nonzero()[0]
            return untold
        source, destination = _ends(columns, "src"), _ends(columns, "dst")
        at = self._table.find(*self._keys(source, destination, columns["proto"]))
        rows = (at >= 0).nonzero()[0]
        rows = rows[columns["time"][rows] <= self._end_ns[at[rows]]]
        at_rows = at[rows]
        mine, begins = self._values[at_rows], self._begins[at_rows]
        forward = source[rows] == begins
        back = ~forward & (destination[rows] == begins)
        for chosen, first, second in ((forward, "src", "dst"), (back, "dst", "src")):
            where, how = rows[chosen], mine[chosen]
            for side, end in ((first, "source"), (second, "backend")):
                _words(columns, f"{side}_ip")[where] = how[end]["ip"]
                columns[f"{side}_port"][where] = how[end]["port"]
            for end, same in (("virtual", "backend"), ("snat", "source")):
                differ = how[end] != how[same]
                if not differ.any():
                    continue
                writable(columns, f"{end}_ip").view("<u8")[where[differ]] = how[end]["ip"][differ]
                writable(columns, f"{end}_port")[where[differ]] = how[end]["port"][differ]
        opens[rows] = False
        others: Array = opens.nonzero()[0]
        return others

    def told(self, columns: dict[str, Array], rows: Array) -> None:
        """These openings are not translated, as far as is known, and on their way to people.

        Of two that meet in a place the first is forgotten.
        """
        seen = {name: columns[name][rows] for name in _SEEN}
        a, b = self._keys(_ends(seen, "src"), _ends(seen, "dst"), seen["proto"])
        self._told[self._told_at(a)] = b

    @staticmethod
    def _told_at(a: Array) -> Array:
        return (a >> np.uint64(64 - _TOLD_BITS)).astype(np.intp)

    def _make_room(self, needed: int) -> None:
        """Leave out what is over for long; twice the room where that is not half of it."""
        size = len(self._table)
        kept = self._end_ns[:size] > time.time_ns() - _KEEP_NS
        capacity = self._table.capacity
        while capacity < self._most and 2 * (np.count_nonzero(kept) + needed) > capacity:
            capacity = min(2 * capacity, self._most)
        values, begins, end_ns = (
            v[:size][kept] for v in (self._values, self._begins, self._end_ns)
        )
        a, b = self._table.keys()
        self._make(capacity)
        self._table.add(a[kept], b[kept])
        count = len(values)
        self._values[:count], self._begins[:count], self._end_ns[:count] = values, begins, end_ns

    def _keys(self, one: Array, other: Array, proto: Array) -> tuple[Array, Array]:
        """Two words for what is seen of a flow, the same for both directions."""
        a = self._mix(one, 0) + self._mix(other, 0)
        b = self._mix(one, 3) + self._mix(other, 3)
        return a, b + proto * self._odd[6]

    def _mix(self, end: Array, first: int) -> NDArray[np.uint64]:
        words = end["ip"]
        mixed: NDArray[np.uint64] = words[..., 0] * self._odd[first]
        mixed ^= mixed >> np.uint64(32)
        mixed += words[..., 1]
        mixed *= self._odd[first + 1]
        mixed ^= mixed >> np.uint64(29)
        mixed += end["port"]
        mixed *= self._odd[first + 2]
        mixed ^= mixed >> np.uint64(32)
        return mixed

    @staticmethod
    def _last(a: Array, b: Array) -> Array:
        """Where each distinct key is for the last time."""
        keys = np.stack((a, b), axis=1)[::-1].copy().view("V16")[:, 0]
        _, first = np.unique(keys, return_index=True)
        last: Array = len(a) - 1 - first
        return last


def _words(columns: dict[str, Array], name: str) -> Array:
    words: Array = columns[name].view("<u8")
    return words


def _ends(columns: dict[str, Array], side: str) -> Array:
    ends = np.zeros(len(columns["proto"]), END)
    ends["ip"] = _words(columns, f"{side}_ip")
    ends["port"] = columns[f"{side}_port"]
    return ends
