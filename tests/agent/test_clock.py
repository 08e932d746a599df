from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from flowobs.agent import clock
from flowobs.agent.clock import STEP_NS, Clock, measure_offset_ns


def test_offset_takes_monotonic_to_utc() -> None:
    offset = measure_offset_ns()
    before, now, after = time.time_ns(), time.monotonic_ns(), time.time_ns()
    assert before - 50_000_000 < now + offset < after + 50_000_000


def test_the_tightest_reading_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    # (before, after): the second reading was not interrupted
    monotonic: Iterator[int] = iter((0, 1000, 2000, 2010, 3000, 9000))
    wall = iter((10_500, 12_005, 13_100))
    monkeypatch.setattr(clock.time, "monotonic_ns", lambda: next(monotonic))
    monkeypatch.setattr(clock.time, "time_ns", lambda: next(wall))

    assert measure_offset_ns() == 10_000


def test_kept_until_the_wall_clock_is_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter((5_000_000, 5_000_300, 4_999_999, 5_000_000 + STEP_NS))
    monkeypatch.setattr(clock, "measure_offset_ns", lambda: next(readings))
    made = Clock()

    assert [made.offset_ns() for _ in range(3)] == [5_000_000, 5_000_000, 5_000_000 + STEP_NS]
