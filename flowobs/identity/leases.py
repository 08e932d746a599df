"""Who held a single address when, learnt one change at a time: for what comes and goes all day.

Where :mod:`flowobs.identity.prefixes` makes a whole new table, this changes one address.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from flowobs.batch import Endpoint
from flowobs.identity.prefixes import KEEP_NS
from flowobs.identity.source import BEGINNING, END, Claim, is_called, verdict

_MAX_LEASES = 16
MAX_ENDED = 1 << 17
"""Ended leases kept; at 100 pods a second ending it is those of twenty minutes."""


class Lease(NamedTuple):
    """``owner`` (a uid) may have had the address in [start_ns, end_ns), and was ``endpoint``; None:
    others, of whom we never heard, may have had it as well.
    """

    owner: str
    endpoint: Endpoint | None
    start_ns: int
    end_ns: int = END


class Held(NamedTuple):
    """Who had an address in [start_ns, end_ns); nobody where it is ``contested``."""

    endpoint: Endpoint | None
    start_ns: int
    end_ns: int
    contested: bool


class Leases:
    """Addresses (16 bytes) with their holders over time.

    An address has one holder at a time, but news of an end comes late, and of a start is only known
    that it was not earlier than some time. Where leases of two owners overlap nobody is named: a
    record gets the right name or none. Ended leases are kept for ``KEEP_NS``. One thread at a time
    changes it, any may look up.
    """

    def __init__(self) -> None:
        self.conflicts = 0
        """Times that two were said to have one address at once."""
        self.version = 0
        """Raised after any answer has changed."""
        self._leases: dict[bytes, tuple[Lease, ...]] = {}
        self._ended: deque[tuple[int, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._leases)

    def claim(
        self,
        address: bytes,
        owner: str,
        endpoint: Endpoint,
        start_ns: int,
        now_ns: int,
        *,
        sure_ns: int = BEGINNING,
        rename: bool = False,
    ) -> None:
        """``owner`` has ``address`` now, and had it not before ``start_ns``; until ``sure_ns`` it
        may have been somebody's of whom we never heard.

        Another endpoint of the same owner holds from now on, or, with ``rename``, always did.
        """
        leases = list(self._leases.get(address, ()))
        for i, lease in enumerate(leases):
            if lease.owner != owner or lease.end_ns != END:
                continue
            if lease.endpoint == endpoint:
                return
            if rename:
                leases[i] = lease._replace(endpoint=endpoint)
            else:
                leases[i] = lease._replace(end_ns=max(lease.start_ns, now_ns))
                leases.append(Lease(owner, endpoint, leases[i].end_ns))
            break
        else:
            self.conflicts += any(lease.end_ns == END for lease in leases)
            if any(lease.owner == owner for lease in leases):
                start_ns = max(start_ns, now_ns)  # it was without the address for a while
            if start_ns < sure_ns:
                leases.append(Lease(owner, None, start_ns, sure_ns))
            leases.append(Lease(owner, endpoint, max(start_ns, sure_ns)))
        self._keep(address, leases, now_ns)

    def past(
        self,
        address: bytes,
        owner: str,
        endpoint: Endpoint | None,
        start_ns: int,
        end_ns: int,
        now_ns: int,
    ) -> None:
        """``owner`` had ``address`` until ``end_ns``, if nothing was known of that before."""
        leases = self._leases.get(address, ())
        if all(lease.owner != owner for lease in leases):
            self._keep(address, [*leases, Lease(owner, endpoint, start_ns, end_ns)], now_ns)

    def release(self, address: bytes, owner: str, at_ns: int, now_ns: int) -> None:
        """``owner`` has ``address`` no more: it did, as far as is known, until ``at_ns``."""
        leases = [
            lease._replace(end_ns=min(lease.end_ns, at_ns)) if lease.owner == owner else lease
            for lease in self._leases.get(address, ())
        ]
        self._keep(address, leases, now_ns)

    def _keep(self, address: bytes, leases: list[Lease], now_ns: int) -> None:
        """Leases that are over for long go, and those that were empty."""
        oldest = now_ns - KEEP_NS
        kept = tuple(le for le in leases if le.end_ns > max(oldest, le.start_ns))[-_MAX_LEASES:]
        if kept == self._leases.get(address, ()):
            return
        if kept:
            self._leases[address] = kept
        else:
            self._leases.pop(address, None)
        self.version += 1
        ends = [lease.end_ns for lease in kept if lease.end_ns != END]
        if ends:
            self._ended.append((max(ends), address))

    def expire(self, now_ns: int) -> None:
        """Forget what ended too long ago, or is too much."""
        while self._ended and (
            self._ended[0][0] <= now_ns - KEEP_NS or len(self._ended) > MAX_ENDED
        ):
            end, address = self._ended.popleft()
            leases = self._leases.get(address, ())
            kept = tuple(lease for lease in leases if lease.end_ns > end)
            if len(kept) < len(leases):
                if kept:
                    self._leases[address] = kept
                else:
                    del self._leases[address]
                self.version += 1

    def claims(self, source: str, address: bytes, time_ns: int) -> list[Claim]:
        """All leases of ``address``, and which one was in force at ``time_ns``."""
        leases = self._leases.get(address, ())
        contested = self.at(address, time_ns).contested
        names = {lease.owner: lease.endpoint for lease in leases if lease.endpoint is not None}
        found: list[Claim] = []
        for owner, endpoint, start_ns, end_ns in leases:
            accepted, reason = verdict(start_ns, end_ns, time_ns)
            if accepted and contested:
                accepted, reason = False, "two had it at the same time, so neither is named"
            elif accepted and endpoint is None:
                accepted, reason = False, "there was no watch: it may have been another's"
            named = endpoint or names.get(owner)
            found.append(Claim(source, address, named, start_ns, end_ns, accepted, reason))
        return found

    def called(self, namespace: str | None, name: str) -> set[bytes]:
        """Addresses that something of this name has or had."""
        return {
            address
            for address, leases in self._leases.items()
            if any(is_called(lease.endpoint, namespace, name) for lease in leases)
        }

    def at(self, address: bytes, time_ns: int) -> Held:
        """Who had ``address`` at ``time_ns``."""
        start, end = BEGINNING, END
        found: Lease | None = None
        contested = False
        for lease in self._leases.get(address, ()):
            if time_ns < lease.start_ns:
                end = min(end, lease.start_ns)
            elif time_ns >= lease.end_ns:
                start = max(start, lease.end_ns)
            else:
                start, end = max(start, lease.start_ns), min(end, lease.end_ns)
                contested = contested or found is not None
                found = lease
        endpoint = None if contested or found is None else found.endpoint
        return Held(endpoint, start, end, contested)
