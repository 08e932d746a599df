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


class Claim(NamedTuple):
    """What somebody says of an address, and whether it was believed at the time asked for."""

    source: str
    """Empty: judged by the address alone."""
    address: bytes | None
    endpoint: Endpoint | None
    """None: somebody of whom nothing else is known."""
    start_ns: int
    end_ns: int
    accepted: bool
    reason: str
    """Why it was believed, or why not, in a few words."""


class Socket(NamedTuple):
    """What the kernel tells of a socket's owner. 0 and empty mean unknown."""

    cgroup: int
    pid: int
    command: str


def verdict(start_ns: int, end_ns: int, time_ns: int) -> tuple[bool, str]:
    """Whether something that held in [start_ns, end_ns) did at ``time_ns``, in words, too."""
    if time_ns < start_ns:
        return False, "not yet: it has it only since later"
    if time_ns >= end_ns:
        return False, "no longer: it had ended by then"
    return True, "it had the address at that time"


def is_called(endpoint: Endpoint | None, namespace: str | None, name: str) -> bool:
    """Whether that is its name; ``namespace`` None: in any."""
    return (
        endpoint is not None and endpoint.name == name and namespace in (None, endpoint.namespace)
    )


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

    def explain(self, address: bytes, time_ns: int) -> list[Claim]:
        """All that it knows of ``address``; the accepted one is the answer of ``by_address``.

        May be called from any thread, like the next one.
        """

    def explain_name(self, namespace: str | None, name: str, time_ns: int) -> list[Claim]:
        """The same of whoever is called that, in ``namespace`` (None: in any)."""

    def by_socket(self, socket: Socket) -> Endpoint | None:
        """Who owns a socket of this machine; None where this source cannot tell."""
