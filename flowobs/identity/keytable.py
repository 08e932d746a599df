"""A hash table in numpy: whole columns of keys in, row numbers out."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowobs.memory import zeros

Keys = NDArray[np.uint64]
Rows = NDArray[np.intp]

_SLOTS_PER_KEY = 4
_ODD = 1
_HALF = np.uint64(32)


class KeyTable:
    """Gives keys of one or two u64 words dense row numbers 0, 1, 2 ...; at most ``capacity``.

    Looking up costs the same however many keys there are. Who uses it keeps values in arrays of its
    own, indexed by row.
    """

    __slots__ = ("_a", "_b", "_mask", "_odd_a", "_odd_b", "_shift", "_slots", "capacity", "size")

    def __init__(self, capacity: int) -> None:
        bits = max(4, (capacity * _SLOTS_PER_KEY - 1).bit_length())
        self.capacity = capacity
        self.size = 0
        self._slots = zeros(1 << bits, np.int32)  # a row + 1
        self._mask = (1 << bits) - 1
        self._shift = np.uint64(64 - bits)
        self._a = zeros(capacity, np.uint64)
        self._b = zeros(capacity, np.uint64)
        # Secret multipliers: nobody outside can choose addresses that all meet in one slot.
        self._odd_a = np.uint64(secrets.randbits(64) | _ODD)
        self._odd_b = np.uint64(secrets.randbits(64) | _ODD)

    def __len__(self) -> int:
        return self.size

    @property
    def room(self) -> int:
        """How many more keys fit."""
        return self.capacity - self.size

    def keys(self) -> tuple[Keys, Keys]:
        """Both words of all keys, in the order of their rows."""
        return self._a[: self.size], self._b[: self.size]

    def clear(self) -> None:
        if self.size:
            self._slots = zeros(len(self._slots), np.int32)
        self.size = 0

    def find(self, a: NDArray[Any], b: NDArray[Any] | None = None) -> Rows:
        """Row of each key (a[i], b[i]), both u8 of shape (n,); -1 where it is not in the table.

        A table whose keys have one word is never given ``b``.
        """
        slots = self._slot(a, b)
        # take with "wrap" reads without bounds checks: -1 reads some key, and is sorted out by >= 0
        rows = self._slots.take(slots, mode="wrap").astype(np.intp)
        rows -= 1
        wrong = self._differ(rows, a, b)
        wrong &= rows >= 0
        pending = wrong.nonzero()[0]
        while pending.size:
            slots[pending] = at = (slots[pending] + 1) & self._mask
            rows[pending] = got = self._slots[at].astype(np.intp) - 1
            wrong = self._differ(got, a[pending], None if b is None else b[pending])
            pending = pending[(got >= 0) & wrong]
        return rows

    def add(self, a: NDArray[Any], b: NDArray[Any] | None = None) -> Rows:
        """Rows for keys that are distinct, not in the table, and no more than ``room``."""
        count = len(a)
        rows = np.arange(self.size, self.size + count)
        self._a[rows] = a
        if b is not None:
            self._b[rows] = b
        self.size += count
        slots = self._slot(a, b)
        pending = np.arange(count)
        while pending.size:
            at = slots[pending]
            free = self._slots[at] == 0
            # Two keys may take the same free slot here: the last one has it, the other goes on.
            self._slots[at[free]] = rows[pending[free]] + 1
            pending = pending[self._slots[at] != rows[pending] + 1]
            slots[pending] = (slots[pending] + 1) & self._mask
        return rows

    def _differ(self, rows: Rows, a: NDArray[Any], b: NDArray[Any] | None) -> NDArray[np.bool_]:
        """Where what is in these rows are other keys."""
        differ: NDArray[np.bool_] = self._a.take(rows, mode="wrap") != a
        if b is not None:
            differ |= self._b.take(rows, mode="wrap") != b
        return differ

    def _slot(self, a: NDArray[Any], b: NDArray[Any] | None) -> NDArray[np.int64]:
        mixed = a * self._odd_a
        if b is not None:
            mixed ^= b
            # What varies of an IPv4 address is in the high half; a product only carries upwards.
            mixed ^= mixed >> _HALF
            mixed *= self._odd_b
        mixed >>= self._shift
        return mixed.view(np.int64)
