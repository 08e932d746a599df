"""How far what we know of a resource can be trusted to be so now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowobs.kubernetes.backoff import Timing


@dataclass(frozen=True, slots=True)
class ResourceState:
    """How one resource's watch is doing."""

    resource: str
    objects: int
    age: float
    """Seconds since the API server was heard of."""
    stale: bool
    problem: str
    lists: int = 0
    undecodable: int = 0
    off: bool = False
    """We are not allowed to watch it, and names do without."""


class Freshness:
    """When a resource's server was last heard of. Written by its reflector, read by any thread."""

    def __init__(self, timing: Timing, clock: Callable[[], int]) -> None:
        self.synced = False
        """All there is was learnt once."""
        self.connected = False
        self.problem = ""
        """Why there is no watch, in a sentence; empty while there is one."""
        self._timing = timing
        self._clock = clock
        self._now_ns = clock()
        self.heard_ns = self._now_ns
        """UTC time of the last sign that what we knew then was all there was."""

    def now_ns(self) -> int:
        """The time; it stands still while the clock goes back."""
        self._now_ns = max(self._now_ns, self._clock())
        return self._now_ns

    def heard(self) -> None:
        self.heard_ns = self.now_ns()
        self.problem = ""

    @property
    def age(self) -> float:
        """Seconds since the server was heard of."""
        return max(0, self._clock() - self.heard_ns) / 1e9

    @property
    def stale(self) -> bool:
        """Whether names may be wrong by now: no server, a silent one, or nothing learnt yet."""
        limit = self._timing.stale if self.connected else self._timing.stale_cut
        return not self.synced or self.age > limit
