"""What every source of names offers, and the shapes that go in and out."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from flowobs.batch import Endpoint

BEGINNING = -(1 << 63)
"""Before every record's time (the least i8)."""
END = (1 << 63) - 1
"""After every record's time (the greatest i8)."""


class Answer(NamedTuple):
    """Who an address is, or that nobody here knows (``endpoint`` None), and when that holds.

    It holds for record times in [start_ns, end_ns), UTC nanoseconds; the time asked for is among
    them.
    """

    endpoint: Endpoint | None
    start_ns: int = BEGINNING
    end_ns: int = END


class Socket(NamedTuple):
    """What the kernel tells of a socket's owner. 0 and empty mean unknown."""

    cgroup: int
    pid: int
    command: str


class IdentitySource(Protocol):
    """Names addresses as of a time, and local sockets as of now.

    Lookups come from one thread and must be quick; ``poll`` may come from another one.
    """

    @property
    def name(self) -> str:
        """What stands in ``identity_source`` of the endpoints it names."""

    @property
    def generation(self) -> int:
        """Raised *after* answers given earlier have changed: whoever keeps answers forgets them."""

    @property
    def age_s(self) -> int:
        """Seconds since what it says was last known to be so; 0 while that is fresh."""

    def poll(self) -> None:
        """Look for news. To be called about once a second; never raises for bad news."""

    def by_address(self, address: bytes, time_ns: int) -> Answer:
        """Who had ``address`` (16 bytes, IPv4 as ::ffff:a.b.c.d) at ``time_ns``."""

    def by_socket(self, socket: Socket) -> Endpoint | None:
        """Who owns a socket of this machine; None where this source cannot tell."""
