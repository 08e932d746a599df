"""Which of a channel's points of observation counts: the one rule for all that rollups tell.

Why, says ``relay/store/channels.py``; here its unit is a channel in a stretch of time instead of a
flow. A side that saw much less than another was away, and does not count while that did.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from flowobs.schema import Reporter
from relay.store.arrays import Array, Columns

EVENTS: Final = ("drops", "fails", "retransmit_events")
"""Counters of what happens at one place once: all points' add up."""
RANK: Final = np.zeros(256, "<u8")
"""Of reporters: the larger the better."""
RANK[[Reporter.source, Reporter.destination]] = 2, 1
_PART: Final = 0.75
"""Of what another point saw: one that saw less was away for some of the time."""
_MOST: Final = 10**18


class Best:
    """The choice among ``points``, which saw so many ``packets``: one for each number in ``key``.

    No path is in one twice.
    """

    def __init__(self, points: Columns, packets: Array, key: Array) -> None:
        self._points = points
        self._order = np.argsort(key)
        self._starts, ends = runs(key[self._order])
        self._sizes = ends - self._starts + 1
        self.packets = np.minimum(packets, _MOST)
        """Of each point."""
        seen, packets, reporter = (
            values[self._order] for values in (points["seen"], self.packets, points["reporter"])
        )
        score = (seen > 0).astype("<u8") << np.uint64(63)
        score |= (packets >= _PART * self._most(packets)).astype("<u8") << np.uint64(62)
        score |= RANK[reporter] << np.uint64(60)
        score += packets
        best = self._order[score == self._most(score)]
        if len(best) > len(self._starts):  # of equals always the same
            order = best[np.lexsort((points["path"][best], key[best]))]
            best = order[runs(key[order])[1]]
        self.chosen = best
        """Which points are the best, in the order of their keys."""

    def all_of(self, values: Array, how: np.ufunc = np.add) -> Array:
        """What the points' ``values`` add up to, of each key."""
        summed: Array = how.reduceat(values[self._order], self._starts)
        return summed

    def counted(self, name: str) -> Array:
        """What each key has of a counter: mostly what its best point has."""
        points = self._points
        if name in EVENTS:
            return self.all_of(points[name])
        if name == "resets":  # the end that sends one tells of it, and the one that gets it
            near = np.where(points["reporter"] == Reporter.source, points[name], 0)
            return _larger(self.all_of(near), self.all_of(points[name] - near))
        if name == "retransmits":  # events, of which some are held back, and what flows count
            return _larger(self.counted("retransmit_events"), self.counted("again"))
        best: Array = points[name][self.chosen]
        return best

    def _most(self, values: Array) -> Array:
        """The largest of each key, for each of its points."""
        return np.repeat(np.maximum.reduceat(values, self._starts), self._sizes)


def _larger(one: Array, other: Array) -> Array:
    larger: Array = np.maximum(one, other)
    return larger


def runs(key: Array) -> tuple[Array, Array]:
    """Where runs of equal numbers begin and end; there is at least one number."""
    starts = np.concatenate(([0], np.flatnonzero(key[1:] != key[:-1]) + 1))
    return starts, np.append(starts[1:], len(key)) - 1
