"""Kernel time to UTC: programs stamp CLOCK_MONOTONIC, records carry nanoseconds since 1970."""

from __future__ import annotations

import time

READINGS = 3
STEP_NS = 100_000
"""A difference to the last offset below this is the reading's own error, not the clock's."""


def measure_offset_ns() -> int:
    """UTC minus CLOCK_MONOTONIC, as of now, in nanoseconds.

    The tightest of a few readings: one that was interrupted would be off by the interruption.
    """
    best_width, best = None, 0
    for _ in range(READINGS):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        if best_width is None or after - before < best_width:
            best_width, best = after - before, wall - (before + after) // 2
    return best


class Clock:
    """The offset from CLOCK_MONOTONIC to UTC.

    Both clocks are slewed alike, so it only moves when the wall clock is stepped. In between it is
    kept, to the nanosecond: else records of one flow would change places with every measurement.
    """

    def __init__(self) -> None:
        self._offset_ns = measure_offset_ns()

    def offset_ns(self) -> int:
        """Nanoseconds to add to CLOCK_MONOTONIC to get UTC; follows a step of the wall clock."""
        now = measure_offset_ns()
        if abs(now - self._offset_ns) >= STEP_NS:
            self._offset_ns = now
        return self._offset_ns
