"""Which tables answer a question about a stretch of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relay.store import ddl
from relay.store.rollup import HOURS, MINUTES

LEAST_NS: Final = 2 * MINUTES.ns
"""A shorter stretch is answered from records, which know each flow."""


@dataclass(frozen=True, slots=True)
class Slice:
    """``from_ns`` <= time < ``to_ns``, from one table."""

    table: str
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Slices without gap or overlap, in order of time."""

    slices: tuple[Slice, ...]
    now_ns: int = 2**63 - 1
    """There is nothing from then on: the last slice may reach further."""

    @property
    def from_ns(self) -> int:
        """Where the answer begins: earlier than asked where only a rollup reaches back."""
        return self.slices[0].from_ns

    @property
    def to_ns(self) -> int:
        """Where the answer ends."""
        return min(self.slices[-1].to_ns, self.now_ns)

    @property
    def table(self) -> str:
        """The coarsest table used."""
        tables = {s.table for s in self.slices}
        return next(t for t in (HOURS.name, MINUTES.name, ddl.TABLE) if t in tables)


def plan(
    from_ns: int,
    to_ns: int,
    complete: Mapping[str, int],
    *,
    step_ns: int | None = None,
    now_ns: int = 2**63 - 1,
) -> Plan:
    """The coarsest tables that are exact for ``from_ns`` <= time < ``to_ns``.

    Whole hours come from the rollup by hour, whole minutes from the one by minute, the rest from
    records. Where a table does not reach back (``complete``), the next coarser one takes over.
    What goes on until ``now_ns`` takes the newest bucket as it is. With ``step_ns``, buckets must
    fit into steps of that length; where only coarser ones are left, they are taken nevertheless.
    """
    if to_ns >= now_ns > from_ns:
        found = plan(from_ns, _up(now_ns, HOURS.ns), complete, step_ns=step_ns)
        if now_ns - from_ns >= LEAST_NS:
            return Plan(found.slices, now_ns)
    records, minutes, hours = (complete[t] for t in (ddl.TABLE, MINUTES.name, HOURS.name))
    if to_ns - from_ns < LEAST_NS and (from_ns >= records or min(minutes, hours) >= records):
        return Plan((Slice(ddl.TABLE, from_ns, to_ns),))
    begin, end = from_ns, to_ns
    if begin < records and minutes <= records:  # no records there: whole minutes, or whole hours
        begin = _down(begin, MINUTES.ns)
        end = end if end > records else _up(end, MINUTES.ns)
        if begin < minutes and hours <= minutes:
            begin = _down(begin, HOURS.ns)
            end = end if end > minutes else _up(end, HOURS.ns)
    h0, h1 = _whole(begin, _fits(begin, end, HOURS.ns, minutes, step_ns), HOURS.ns, hours)
    # minutes go around the hours; without hours they are the middle themselves
    m0, m1 = _whole(begin, _fits(begin, end, MINUTES.ns, records, step_ns), MINUTES.ns, minutes)
    if h0 >= h1:
        h0 = h1 = m1
    elif m0 >= m1:
        m0, m1 = h0, h1
    m0, m1 = min(m0, h0), max(m1, h1)
    edges = [
        Slice(ddl.TABLE, begin, m0),
        Slice(MINUTES.name, m0, h0),
        Slice(HOURS.name, h0, h1),
        Slice(MINUTES.name, h1, m1),
        Slice(ddl.TABLE, m1, end),
    ]
    return Plan(tuple(s for s in edges if s.from_ns < s.to_ns))


def _whole(begin: int, end: int, ns: int, complete: int) -> tuple[int, int]:
    # a rollup's oldest bucket may have begun before it was complete
    first = max(_up(begin, ns), _up(complete, ns)) if complete > begin else _up(begin, ns)
    last = _down(end, ns)
    return (first, last) if first < last else (end, end)


def _fits(begin: int, end: int, ns: int, finer: int, step_ns: int | None) -> int:
    # buckets that a step cannot be made of are for where nothing finer reaches
    return end if not step_ns or step_ns % ns == 0 else min(end, max(begin, _up(finer, ns)))


def _down(ns: int, step: int) -> int:
    return ns // step * step


def _up(ns: int, step: int) -> int:
    return -(-ns // step) * step
