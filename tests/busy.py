"""How busy the machine is, for tests of how soon something happens."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

TICK_S = 0.02
WORK_S = 0.1


class Busy:
    """How late a thread of ours is woken, measured all the time."""

    def __init__(self) -> None:
        self.late: list[float] = []

    @property
    def seconds(self) -> float:
        """What nine of ten times are below; next to nothing on an idle machine."""
        return statistics.quantiles(self.late, n=10)[-1] if len(self.late) > 1 else 0.0


def slowdown() -> float:
    """How often longer work takes because of others': wall time by CPU time, 1 where it is idle."""
    began, used = time.perf_counter(), time.thread_time()
    while (spent := time.thread_time() - used) < WORK_S:
        pass
    return max(1.0, (time.perf_counter() - began) / spent)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block ends in time; on a busy machine, as much later as work takes longer there."""
    before = slowdown()
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    after = slowdown()
    assert took < seconds * max(before, after), (took, before, after)


@contextmanager
def measured() -> Iterator[Busy]:
    """Measure while the block runs."""
    busy, done = Busy(), threading.Event()

    def wake() -> None:
        while not done.is_set():
            due = time.monotonic() + TICK_S
            time.sleep(TICK_S)
            busy.late.append(time.monotonic() - due)

    thread = threading.Thread(target=wake)
    thread.start()
    try:
        yield busy
    finally:
        done.set()
        thread.join()
