"""GET /api/v1/diff: what changed between two stretches of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final, NamedTuple

import msgspec
from fastapi import APIRouter, Request

from relay.http.errors import ApiError
from relay.http.parameters import whole_minutes, window
from relay.http.queries import Queries, Session
from relay.http.traffic import Row, Traffic, traffic
from relay.http.trends import (
    MOST,
    Asked,
    Covered,
    asked,
    covered,
    dimension_of,
    length_of,
    named,
    oldest,
    route,
    span,
    value,
)
from relay.store.plan import LEAST_NS
from relay.store.rollup import MINUTES

MOST_CHANGES: Final = 1_000
TROUBLES: Final = ("drops", "fails", "resets", "retransmits")
RATES: Final = ("bytes", "packets", "opens")
TIMES: Final = ("connect_ms", "connect_p95_ms", "rtt_ms", "rtt_p95_ms")
SIGMAS: Final = 4
"""Counts of events differ by chance, by the square root of them: this many times it is a change."""
FACTOR: Final = 2.0
"""Rates change when they are this many times as large or as small."""
LEAST_PACKETS: Final = 100
"""Fewer packets in both stretches are no change of a rate, and a new edge of little importance."""
SLOWER: Final = 1.5
"""Latencies change by this factor: their histograms are off by 9 % at most."""
LEAST_MS: Final = 0.5
ENOUGH: Final = {"connect_ms": 50, "connect_p95_ms": 200, "rtt_ms": 500, "rtt_p95_ms": 2_000}
"""Latencies of fewer connections opened, or of fewer packets (rtt), are chance."""


@dataclass(frozen=True, slots=True)
class DiffQuery:
    """What /api/v1/diff was asked for: it is compared with ``before_ns`` before it, or, with
    ``against_ns``, with as much so long ago."""

    asked: Asked
    before_ns: int
    by: str = "edge"
    against_ns: int = 0

    @property
    def before(self) -> tuple[int, int]:
        """From when to when it is compared with (ns)."""
        end = self.asked.to_ns - self.against_ns if self.against_ns else self.asked.from_ns
        begin = max(0, end - self.before_ns)
        if end % MINUTES.ns == 0 and self.before_ns >= LEAST_NS:  # as long ago as `since` may be
            begin -= begin % MINUTES.ns
        return begin, end


def router(queries: Queries) -> APIRouter:
    """The route, over a store."""
    return route(queries, "/api/v1/diff", diff_query, build)


def diff_query(request: Request) -> DiffQuery:
    """Raises ApiError (400) with one sentence."""
    given = request.query_params
    # what begins with its minute is a part of what was as long ago
    when = window if "against" in given else whole_minutes
    common = asked(request, ("by", "before", "against"), 50, MOST_CHANGES, when)
    length = common.to_ns - common.from_ns
    before_ns, against_ns = length_of(given, "before"), length_of(given, "against")
    if against_ns is not None and before_ns is not None:
        raise ApiError(400, "`against` compares with times of one length; leave out `before`")
    if against_ns is not None and against_ns < length:
        raise ApiError(
            400,
            f"`against` cannot be `{given['against']}`: so long ago is a part of what is asked for;"
            " use a longer time, or a shorter `since`",
        )
    return DiffQuery(common, before_ns or length, dimension_of(given), against_ns or 0)


def build(session: Session, query: DiffQuery) -> bytes:
    """The changes as JSON, the most important first. Blocks; raises StoreError."""
    what = query.asked
    oldest_ns = oldest(session)
    after = _traffic(session, query, what.from_ns, what.to_ns)
    before = _traffic(session, query, *query.before)
    reach = covered(*query.before, oldest_ns)
    seconds = _seconds(before, oldest_ns), _seconds(after, oldest_ns)
    found = []
    olds, news = before.rows, after.rows
    for key in olds.keys() | news.keys() if reach != "none" else ():
        old, new = olds.get(key), news.get(key)
        # what is missing in an answer that does not hold all may well be there
        if (old is None and before.more) or (new is None and after.more):
            continue
        change = compare(old, new, seconds, reach)
        if change is not None:
            found.append((change.order, key, change))
    found.sort(key=lambda one: one[:2])
    changes = [
        {**named(query.by, key), "change": change.what, "measures": change.measures}
        for _, key, change in found
    ]
    return msgspec.json.encode(
        {
            **span(after.plan.from_ns, after.plan.to_ns, oldest_ns),
            "before": {
                **span(before.plan.from_ns, before.plan.to_ns, oldest_ns),
                "covered": reach,
                "table": before.plan.table,
            },
            "table": after.plan.table,
            "group": what.group,
            "by": query.by,
            "changes": changes[: what.limit],
            "count": len(changes),
            "more": before.more or after.more,
        }
    )


def _traffic(session: Session, query: DiffQuery, from_ns: int, to_ns: int) -> Traffic:
    what = query.asked
    return traffic(
        session, what.filter, from_ns, to_ns, group=what.group, by=(query.by,), most=MOST,
        nodes=False,
    )  # fmt: skip


def _seconds(found: Traffic, oldest_ns: int | None) -> float:
    begin = max(found.plan.from_ns, oldest_ns or 0)
    return max(1.0, (found.plan.to_ns - begin) / 10**9)


class Pair(msgspec.Struct, frozen=True):
    """A measure in both stretches: counts a second, or milliseconds."""

    before: float
    after: float
    difference: float
    factor: float | None


class Change(NamedTuple):
    """``what`` became of an edge, and how important that is: a lower ``order`` comes first."""

    what: str
    measures: dict[str, Pair]
    order: tuple[int, float]


def compare(
    old: Row | None, new: Row | None, seconds: tuple[float, float], reach: Covered
) -> Change | None:
    """The change of an edge, None where it is as before; one of both rows is there.

    ``seconds`` are how long each stretch is known.
    """
    if old is None or new is None:
        rates = _pairs((*TROUBLES, *RATES), old, new, seconds)
        pairs = {name: pair for name, pair in rates.items() if pair.difference}
        trouble = _more(pairs)
        few = (value(new or old or {}, "packets", 1) or 0) < LEAST_PACKETS
        rank = 0 if trouble > 0 else 4 if few else 2
        size = trouble if trouble > 0 else abs(rates["packets"].difference)
        what = "vanished" if new is None else "new" if reach == "all" else "maybe_new"
        return Change(what, pairs, (rank, -size))
    troubles = [n for n in TROUBLES if _by_more_than_chance(old[n], new[n], seconds)]
    times = {n: _pair(old[n], new[n]) for n in TIMES if _another_time(old, new, n)}
    rates = _pairs([n for n in RATES if _another_rate(old, new, n, seconds)], old, new, seconds)
    pairs = _pairs(troubles, old, new, seconds)
    trouble = _more(pairs)
    slower = max((t.after / t.before for t in times.values() if t.before), default=0.0)
    size = max((abs(pair.difference) for pair in rates.values()), default=0.0)
    order = (0, -trouble) if trouble > 0 else (1, -slower) if slower > 1 else (3, -size)
    measures = {**pairs, **times, **rates}
    return Change("changed", measures, order) if measures else None


def _more(pairs: dict[str, Pair]) -> float:
    return sum(pairs[name].difference for name in TROUBLES if name in pairs)


def _pairs(
    names: Sequence[str], old: Row | None, new: Row | None, seconds: tuple[float, float]
) -> dict[str, Pair]:
    return {n: _pair(_rate(old, n, seconds[0]), _rate(new, n, seconds[1])) for n in names}


def _rate(row: Row | None, name: str, seconds: float) -> float:
    count = None if row is None else value(row, name, seconds)
    return 0.0 if count is None else round(count / seconds, 6)


def _pair(old: float, new: float) -> Pair:
    return Pair(old, new, round(new - old, 6), round(new / old, 4) if old else None)


def _by_more_than_chance(old: int, new: int, seconds: tuple[float, float]) -> bool:
    """Whether two counts differ more than counts of one rate do."""
    a, b = seconds
    # the variance of old * b/a - new, if both come at the rate of both together
    deviation = sqrt((old + new) * b / a) if old + new else 0.0
    return abs(new - old * b / a) > SIGMAS * deviation


def _another_rate(old: Row, new: Row, name: str, seconds: tuple[float, float]) -> bool:
    before, after = _rate(old, name, seconds[0]), _rate(new, name, seconds[1])
    if before == after or before / FACTOR < after < before * FACTOR:
        return False
    if max(value(old, "packets", 1) or 0, value(new, "packets", 1) or 0) < LEAST_PACKETS:
        return False
    return name != "opens" or _by_more_than_chance(old[name], new[name], seconds)


def _another_time(old: Row, new: Row, name: str) -> bool:
    """Whether a latency is another one: slower, or faster."""
    before, after = old[name], new[name]
    if before is None or after is None:
        return False
    low, high = (before, after) if before < after else (after, before)
    if high < low * SLOWER or high - low < LEAST_MS:
        return False
    of = "opens" if "connect" in name else "packets"
    return min(value(row, of, 1) or 0 for row in (old, new)) >= ENOUGH[name]
