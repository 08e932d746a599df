"""Ratios of turns with something to the turns without it on either side of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 500


class Ratio(NamedTuple):
    value: float
    low: float
    high: float
    """Of 95 %, by bootstrap."""

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def beside(values: Sequence[float]) -> tuple[Ratio, Ratio]:
    """Of values of turns without, with, without, ..., without: the ratio of one with to those
    beside it, and of one without to the next ones without. Of each the median of means of two:
    as deaf to a few odd ones as a median, and nearly as sharp as a mean (Hodges and Lehmann).
    """
    logs = np.log(np.asarray(values, np.float64))
    others = logs[::2]
    with_it = logs[1::2] - (others[:-1] + others[1:]) / 2
    itself = others[1:-1] - (others[:-2] + others[2:]) / 2

    def middle(logs: NDArray[np.float64]) -> Ratio:
        means = np.add.outer(logs, logs) / 2
        return _bootstrap(
            len(logs), lambda rows: float(np.exp(np.median(means[np.ix_(rows, rows)])))
        )

    return middle(with_it), middle(itself)


def p99(turns: Sequence[NDArray[np.int64]]) -> tuple[Ratio, Ratio]:
    """Of all requests with to all without, and of every other turn without to the rest of them.

    ``turns`` as in ``beside``: (microseconds, how many requests took so long) by row.
    """
    others, count = turns[::2], len(turns) // 2

    def ratio(these: Sequence[NDArray[np.int64]], those: Sequence[NDArray[np.int64]]) -> Ratio:
        return _bootstrap(
            min(len(these), len(those)),
            lambda rows: _p99([these[r] for r in rows]) / _p99([those[r] for r in rows]),
        )

    return ratio(turns[1::2], others[:count]), ratio(others[::2], others[1::2])


def _p99(turns: Sequence[NDArray[np.int64]]) -> float:
    """One bad second does not make it."""
    took, count = np.concatenate(turns).T
    order = np.argsort(took)
    total = np.cumsum(count[order])
    return float(took[order][np.searchsorted(total, 0.99 * total[-1])])


def _bootstrap(count: int, of: Callable[[NDArray[np.intp]], float]) -> Ratio:
    """``of`` all rows, and within which bounds it is for others drawn from them."""
    random = np.random.default_rng(1)
    drawn = [of(random.integers(count, size=count)) for _ in range(_RESAMPLES)]
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    return Ratio(of(np.arange(count)), low, high)
