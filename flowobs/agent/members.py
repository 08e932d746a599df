"""Columns out of arrays of kernel structs, in which the values of one member are far apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_FOLD = 64


def copied(structs: Array) -> Array:
    """A contiguous copy."""
    copy: Array = structs.view(f"V{structs.itemsize}").copy().view(structs.dtype)
    return copy


def joined(parts: Sequence[Array]) -> Array:
    """Structs of one type in one contiguous array."""
    # numpy copies structs member by member, but bytes at once
    plain = [part.view(f"V{part.itemsize}") for part in parts]
    whole: Array = np.concatenate(plain).view(parts[0].dtype)
    return whole


def with_rows(structs: Array, rows: Array) -> Array:
    """``structs``, and those of ``rows`` once more at the end."""
    plain = structs.view(f"V{structs.itemsize}")
    return joined((structs, plain[rows].view(structs.dtype)))


def told(structs: Array) -> np.void:
    """One struct that has each bit which any of ``structs`` has; they are contiguous."""
    width = 4 if structs.itemsize % 8 else 8
    words = structs.view(f"<u{width}").reshape(len(structs), structs.itemsize // width)
    whole = len(words) // _FOLD * _FOLD
    if whole:
        # numpy takes long rows six times faster than short ones
        folded = np.bitwise_or.reduce(words[:whole].reshape(-1, _FOLD * words.shape[1]), axis=0)
        words = np.concatenate((folded.reshape(_FOLD, -1), words[whole:]))
    bits: np.void = np.bitwise_or.reduce(words, axis=0).view(structs.dtype)[0]
    return bits


class Pairs:
    """The members of ``structs`` that have a value for each of two ends, a and b.

    ``swap``, u1 of shape (n,): 1 where b is the source, 0 where a is. ``structs`` are contiguous,
    ``bits`` is what is :func:`told`.
    """

    def __init__(self, structs: Array, swap: Array, bits: np.void) -> None:
        self.structs = structs
        self.swap = swap
        self.bits = bits
        self._places: dict[int, tuple[Array, Array]] = {}

    def sides(self, name: str) -> tuple[Array, Array]:
        """A pair's values, each of shape (n,): (those of the source, those of the destination)."""
        assert self.structs.dtype.fields is not None
        pair, offset = self.structs.dtype.fields[name][:2]
        size = pair.base.itemsize
        if self.structs.itemsize % size:
            a, b = self.structs[name].T
            swap = self.swap.view(np.bool_)
            return np.where(swap, b, a), np.where(swap, a, b)
        # all values of this size in a row: to take from it is three times faster than to choose
        source, destination = self._places.get(size) or self._find_places(size)
        values = self.structs.view(pair.base)[offset // size :]
        return values.take(source, mode="wrap"), values.take(destination, mode="wrap")

    def _find_places(self, size: int) -> tuple[Array, Array]:
        step = self.structs.itemsize // size
        first = np.arange(0, len(self.structs) * step, step)
        places = self._places[size] = first + self.swap, first + (self.swap ^ 1)
        return places
