"""GET /api/v1/timeseries: a measure in steps of time, of the largest groups and the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request

from flowobs.measures import LATENCIES, unit
from flowobs.rows import time_text
from relay.http.errors import ApiError
from relay.http.measured import measured
from relay.http.queries import Queries, Session
from relay.http.traffic import Key
from relay.http.traffic_sql import OTHER
from relay.http.trends import (
    Asked,
    asked,
    dimension_of,
    length_of,
    measure_of,
    named,
    oldest,
    per,
    route,
    span,
)
from relay.store.plan import Plan
from relay.store.rollup import HOURS, MINUTES

MOST_GROUPS: Final = 20
MOST_POINTS: Final = 1_000
POINTS: Final = 120
"""As many steps at most when none is asked for; at least half of it."""
STEPS_S: Final = (
    1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800,
    21_600, 43_200, 86_400, 172_800, 259_200, 604_800,
)  # fmt: skip
_NS: Final = 10**9
UNSTORED_NS: Final = 4 * _NS
"""So late may a record be stored (drain, commit group, commit): a step from since is no zero."""
_BUCKETS_S: Final = {MINUTES.name: MINUTES.ns // _NS, HOURS.name: HOURS.ns // _NS}


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """What /api/v1/timeseries was asked for."""

    asked: Asked
    by: str = "total"
    measure: str = "bytes"
    step_s: int | None = None


def router(queries: Queries) -> APIRouter:
    """The route, over a store."""
    return route(queries, "/api/v1/timeseries", series_query, build)


def series_query(request: Request) -> SeriesQuery:
    """Raises ApiError (400) with one sentence."""
    given = request.query_params
    common = asked(request, ("by", "measure", "step"), 5, MOST_GROUPS)
    step_ns = length_of(given, "step")
    if step_ns is not None:
        if step_ns % _NS:
            raise ApiError(400, f"`step` cannot be `{given['step']}`; use whole seconds: 30s")
        points = (common.to_ns - common.from_ns) // step_ns
        if points > MOST_POINTS:
            least = -(-(common.to_ns - common.from_ns) // _NS // MOST_POINTS)
            raise ApiError(
                400,
                f"{points} steps are too many; use a `step` of at least {least}s or a shorter time",
            )
    step_s = None if step_ns is None else step_ns // _NS
    return SeriesQuery(common, dimension_of(given, "total"), measure_of(given), step_s)


def automatic(seconds: float) -> int:
    """The step (s) that makes 60 to 120 points of a stretch of time: a minute where that does,
    which rollups know."""
    if 60 * 60 <= seconds <= 60 * POINTS:
        return 60
    for step in STEPS_S:
        if seconds <= step * POINTS:
            return step
    return -(-int(seconds) // POINTS // STEPS_S[-1]) * STEPS_S[-1]


def aligned(
    plan: Callable[[int, int, int], Plan], from_ns: int, to_ns: int, step_s: int, least_ns: int
) -> tuple[int, int, int]:
    """Whole steps around ``from_ns`` .. ``to_ns``, and their length: longer than ``step_s`` where
    only a table with longer buckets reaches back. There is nothing before ``least_ns``."""
    while True:
        step = step_s * _NS
        begin, end = from_ns // step * step, -(-to_ns // step) * step
        tables = {
            part.table for part in plan(max(begin, min(least_ns, end - step)), end, step).slices
        }
        longest = max((_BUCKETS_S[t] for t in tables if t in _BUCKETS_S), default=1)
        if step_s % longest == 0:
            return begin, end, step_s
        step_s = -(-step_s // longest) * longest


def build(session: Session, query: SeriesQuery) -> bytes:
    """The series as JSON. Blocks; raises StoreError."""
    what, by, measure = query.asked, query.by, query.measure
    step_s = query.step_s or automatic((what.to_ns - what.from_ns) / _NS)
    covered_ns = oldest(session)
    # a table of longer buckets would do for the time before there was anything, and lengthen steps
    least_ns = (covered_ns or 0) // MINUTES.ns * MINUTES.ns
    from_ns, to_ns, step_s = aligned(session.plan, what.from_ns, what.to_ns, step_s, least_ns)
    begin_ns = max(from_ns, min(least_ns, to_ns - step_s * _NS))
    now_ns = time.time_ns()
    latency = measure in LATENCIES
    points = (to_ns - from_ns) // (step_s * _NS)
    groups: list[Any] = []
    of = () if by == "total" else (by,)
    when = what.filter, begin_ns, to_ns, measure
    values: dict[Key, float] = {}
    if of:
        found = measured(session, *when, group=what.group, by=of, most=what.limit)
        groups = [key[0] for key in found.values]
    if not of or groups:
        found = measured(session, *when, group=what.group, by=of, step_s=step_s, only=groups)
        values = found.values
    # what the tables were asked for may begin earlier: a rollup's bucket
    starts = [from_ns // _NS + i * step_s for i in range(points)]
    starts = [at for at in starts if at * _NS < now_ns - UNSTORED_NS]
    nothing = [
        None if latency or covered_ns is None or (at + step_s) * _NS <= covered_ns else 0
        for at in starts
    ]
    place = {at: i for i, at in enumerate(starts)}
    lines: dict[Any, list[float | None]] = {
        name: list(nothing) for name in (groups if by != "total" else [None])
    }
    for (*whose, at), number in values.items():
        i = place.get(at)
        if i is not None:
            known = max(at * _NS, covered_ns or 0), min((at + step_s) * _NS, now_ns)
            seconds = max(1.0, (known[1] - known[0]) / _NS)
            name = None if not whose else whose[0] if whose[0] in groups else OTHER
            lines.setdefault(name, list(nothing))[i] = per(seconds, number, measure)
    return msgspec.json.encode(
        {
            **span(from_ns, min(to_ns, max(now_ns, from_ns)), covered_ns),
            "table": found.plan.table,
            "group": what.group,
            "by": by,
            "measure": measure,
            "unit": unit(measure),
            "step_s": step_s,
            "at": [time_text(at * _NS) for at in starts],
            "series": [{**_named(by, name), "values": lines[name]} for name in lines],
        }
    )


def _named(by: str, name: Any) -> dict[str, Any]:
    if name is None:
        return {}
    return {"other": True} if name == OTHER else named(by, (name,))
