"""How busy the machine is, for tests of how soon something happens."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

TICK_S = 0.02


class Busy:
    """How late a thread of ours is woken, measured all the time."""

    def __init__(self) -> None:
        self.late: list[float] = []

    @property
    def seconds(self) -> float:
        """What nine of ten times are below; next to nothing on an idle machine."""
        return statistics.quantiles(self.late, n=10)[-1] if len(self.late) > 1 else 0.0


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
