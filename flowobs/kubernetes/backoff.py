"""When to ask again: never at once, never all at the same time, and not before we are told to."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient a reflector is, in seconds."""

    least: float = 1.0
    """Between the starts of two attempts, however well the first one went; and the first delay."""
    most: float = 30.0
    """The longest delay of our own; Retry-After may ask for more."""
    most_asked: float = 300.0
    """The longest that Retry-After is listened to."""
    steady: float = 10.0
    """A watch that lived so long was no failure, whatever ended it."""
    connect: float = 10.0
    quiet: float = 60.0
    """The longest time for a page of a list, and the longest silence in a streaming one."""
    watch: tuple[float, float] = (300.0, 600.0)
    """timeoutSeconds of a watch: one ends before a half-dead connection is believed for long."""
    grace: float = 15.0
    """What a watch may last beyond its timeoutSeconds."""
    token: float = 60.0
    """How old a token or a certificate from a file may get before the file is read again."""
    stale: float = 120.0
    """Silence after which what is known counts as stale; the server sends a bookmark a minute."""
    stale_cut: float = 10.0
    """The same while there is no watch at all."""


class Backoff:
    """Delays that double from ``least`` to ``most``, each between a half and the whole of it."""

    def __init__(self, timing: Timing, chance: Callable[[], float] = random.random) -> None:
        self._timing = timing
        self._chance = chance
        self.failures = 0

    def failed(self, retry_after: float | None = None) -> float:
        """Note a failure; the seconds to wait after it."""
        t = self._timing
        whole: float = min(t.most, t.least * 2.0 ** min(self.failures + 1, 16))
        self.failures += 1
        delay = max(t.least, whole * (0.5 + self._chance() / 2))
        if retry_after is not None:
            # a little later than asked: others were told the same second
            asked = min(max(retry_after, 0.0), t.most_asked)
            delay = max(delay, asked + t.least * self._chance())
        return delay

    def worked(self) -> None:
        self.failures = 0


def retry_after(text: str | None) -> float | None:
    """The seconds in a Retry-After header; None without one, or where it is a date."""
    return float(text) if text and text.isascii() and text.isdigit() else None
