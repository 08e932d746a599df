"""Address prefixes and who had them when: longest prefix wins, as of a record's time."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from flowobs.batch import Endpoint
from flowobs.identity.source import BEGINNING, END, Answer, Claim, is_called, verdict

BITS = 128
V4_BITS = 96
"""Length of ::ffff:0:0/96, under which IPv4 lives."""
_V4 = 0xFFFF
KEEP_NS = 10 * 60 * 1_000_000_000
_MAX_SPANS = 16


class Prefix(NamedTuple):
    """The first ``length`` bits of a 16-byte address, as a number; 128 for a single address."""

    length: int
    bits: int

    @classmethod
    def of(cls, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Prefix:
        number = int(network.network_address)
        if network.version == 4:
            number |= _V4 << 32
            return cls(V4_BITS + network.prefixlen, number >> (32 - network.prefixlen))
        return cls(network.prefixlen, number >> (BITS - network.prefixlen))

    @classmethod
    def of_address(cls, address: bytes) -> Prefix:
        return cls(BITS, int.from_bytes(address, "big"))


class Span(NamedTuple):
    """``endpoint`` had the prefix in [start_ns, end_ns)."""

    start_ns: int
    end_ns: int
    endpoint: Endpoint


class Prefixes:
    """An immutable table of prefixes; ``replaced`` makes the next one.

    What was taken out stays as a tombstone for ``KEEP_NS``, so that records that are late still get
    the name that was true when they happened. Once a tombstone is gone such a record gets no name,
    never a newer one.
    """

    __slots__ = ("_by_length", "_moment", "_v4_by_length")

    def __init__(
        self, spans: Mapping[Prefix, tuple[Span, ...]], moment_ns: int = BEGINNING
    ) -> None:
        lengths = sorted({p.length for p in spans}, reverse=True)
        tables: dict[int, dict[int, tuple[Span, ...]]] = {length: {} for length in lengths}
        for prefix, known in spans.items():
            tables[prefix.length][prefix.bits] = known
        self._by_length = [(BITS - length, tables[length]) for length in lengths]
        # ::/0 is all of IPv6 but says nothing of IPv4, though we write that as ::ffff:a.b.c.d.
        self._v4_by_length = [(s, t) for s, t in self._by_length if s <= BITS - V4_BITS]
        self._moment = moment_ns

    @classmethod
    def always(cls, entries: Mapping[Prefix, Endpoint]) -> Prefixes:
        """A table whose entries hold for all times."""
        return cls({p: (Span(BEGINNING, END, e),) for p, e in entries.items()})

    def replaced(self, entries: Mapping[Prefix, Endpoint], now_ns: int) -> Prefixes:
        """The table after ``entries`` became the whole truth at ``now_ns`` (UTC).

        A clock that went back counts as standing still.
        """
        now_ns = max(now_ns, self._moment)
        oldest = now_ns - KEEP_NS
        spans: dict[Prefix, tuple[Span, ...]] = {}
        for shift, table in self._by_length:
            for bits, known in table.items():
                prefix = Prefix(BITS - shift, bits)
                *past, last = known
                current = entries.get(prefix)
                if last.end_ns == END and last.endpoint == current:
                    kept = [s for s in past if s.end_ns > oldest]
                    spans[prefix] = (*kept[-_MAX_SPANS:], last)
                    continue
                ended = [*past, last._replace(end_ns=min(last.end_ns, now_ns))]
                # a span that ends where it starts was never true
                kept = [s for s in ended if s.end_ns > max(oldest, s.start_ns)]
                if current is not None:
                    kept.append(Span(now_ns, END, current))
                if kept:
                    spans[prefix] = tuple(kept[-_MAX_SPANS:])
        for prefix, endpoint in entries.items():
            if prefix not in spans:
                spans[prefix] = (Span(now_ns, END, endpoint),)
        return Prefixes(spans, now_ns)

    def claims(self, source: str, address: bytes, time_ns: int) -> list[Claim]:
        """All entries that hold ``address``, the longest prefix first."""
        found: list[Claim] = []
        taken = False
        for span in self._spans(address):
            accepted, reason = verdict(span.start_ns, span.end_ns, time_ns)
            if accepted and taken:
                accepted, reason = False, "a smaller range, or the address itself, goes before it"
            taken = taken or accepted
            found.append(Claim(source, address, span.endpoint, *span[:2], accepted, reason))
        return found

    def called(self, namespace: str | None, name: str) -> set[bytes]:
        """Single addresses, and the first ones of ranges, that something of this name has."""
        return {
            (bits << shift).to_bytes(16, "big")
            for shift, table in self._by_length
            for bits, spans in table.items()
            if any(is_called(span.endpoint, namespace, name) for span in spans)
        }

    def _spans(self, address: bytes) -> Iterator[Span]:
        number = int.from_bytes(address, "big")
        for shift, table in self._tables(number):
            yield from table.get(number >> shift, ())

    def _tables(self, number: int) -> list[tuple[int, dict[int, tuple[Span, ...]]]]:
        return self._v4_by_length if number >> 32 == _V4 else self._by_length

    def at(self, address: bytes, time_ns: int) -> Answer:
        """The entry with the longest prefix that held ``address`` (16 bytes) at ``time_ns``."""
        number = int.from_bytes(address, "big")
        start, end = BEGINNING, END
        for shift, table in self._tables(number):
            for span in table.get(number >> shift, ()):
                if time_ns < span.start_ns:
                    end = min(end, span.start_ns)
                    break
                if time_ns < span.end_ns:
                    return Answer(span.endpoint, max(start, span.start_ns), min(end, span.end_ns))
                start = max(start, span.end_ns)
        return Answer(None, start, end)
