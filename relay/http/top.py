"""GET /api/v1/top: the groups with most of a measure, of all or of those first seen now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request

from flowobs.measures import LATENCIES, unit
from flowobs.rows import time_text
from flowobs.times import UNITS_NS
from relay.http.errors import ApiError
from relay.http.measured import measured
from relay.http.parameters import flag, whole_minutes
from relay.http.queries import Queries, Session
from relay.http.traffic import Row, traffic
from relay.http.trends import (
    MOST,
    Asked,
    asked,
    dimension_of,
    largest,
    length_of,
    measure_of,
    named,
    oldest,
    per,
    route,
    span,
    value,
)

MOST_ROWS: Final = 1_000
BEFORE_NS: Final = 7 * UNITS_NS["d"]
"""How far newcomers are looked for in the past, when nobody says."""


@dataclass(frozen=True, slots=True)
class TopQuery:
    """What /api/v1/top was asked for; with ``new``, of what was not seen ``before_ns`` before."""

    asked: Asked
    by: str = "edge"
    measure: str = "bytes"
    new: bool = False
    before_ns: int = BEFORE_NS


def router(queries: Queries) -> APIRouter:
    """The route, over a store."""
    return route(queries, "/api/v1/top", top_query, build)


def top_query(request: Request) -> TopQuery:
    """Raises ApiError (400) with one sentence."""
    given = request.query_params
    common = asked(request, ("by", "measure", "new", "before"), 10, MOST_ROWS, whole_minutes)
    new, before_ns = flag(given, "new"), length_of(given, "before")
    if before_ns is not None and not new:
        raise ApiError(400, "`before` is how far back newcomers were not seen; add `new=true`")
    return TopQuery(common, dimension_of(given), measure_of(given), new, before_ns or BEFORE_NS)


def build(session: Session, query: TopQuery) -> bytes:
    """The rows as JSON, largest first. Blocks; raises StoreError."""
    what, by, measure = query.asked, query.by, query.measure
    covered_ns = oldest(session)
    since_ns = max(0, what.from_ns - query.before_ns) if query.new else what.from_ns
    if query.new and covered_ns is not None:
        since_ns = min(what.from_ns, max(since_ns, covered_ns))
    unsure = query.new and (covered_ns is None or covered_ns >= what.from_ns)
    found = traffic(
        session, what.filter, since_ns, what.to_ns, group=what.group, by=(by,), most=MOST,
        largest=None if measure in LATENCIES else (measure, what.limit),
        new_ns=what.from_ns if query.new else 0, nodes=False,
    )  # fmt: skip
    rows = {} if unsure else found.rows
    begin = max(what.from_ns, found.plan.from_ns, covered_ns or 0)
    seconds = max(1.0, (found.plan.to_ns - begin) / 10**9)
    values = {key: value(row, measure, seconds) for key, row in rows.items()}
    keys = largest(values, what.limit)
    # else each flow is in one row
    apart = query.new or by == "end" or found.more
    total = None
    if measure not in LATENCIES:
        total = _total(session, query, seconds) if apart else sum(v or 0 for v in values.values())
        total = round(total, 3)
    shown = [{**named(by, key), "value": values[key], **_told(rows[key])} for key in keys]
    for row in shown:
        row["share"] = round(row["value"] / total, 6) if total else None
    rest = [number for key, number in values.items() if number and key not in set(keys)]
    return msgspec.json.encode(
        {
            **span(what.from_ns if query.new else found.plan.from_ns, found.plan.to_ns, covered_ns),
            "table": found.plan.table,
            "group": what.group,
            "by": by,
            "measure": measure,
            "unit": unit(measure),
            "total": total,
            "rows": shown,
            "other": _other(query, total, shown, rest),
            "more": found.more,
            **({"new_since": None if unsure else time_text(since_ns)} if query.new else {}),
        }
    )


def _told(row: Row) -> Row:
    return row | {name: time_text(row[name]) for name in ("first_seen", "last_seen")}


def _total(session: Session, query: TopQuery, seconds: float) -> float:
    """Of all traffic, each flow once."""
    what = query.asked
    found = measured(session, what.filter, what.from_ns, what.to_ns, query.measure)
    return per(seconds, found.values.get((), 0), query.measure)


def _other(
    query: TopQuery, total: float | None, shown: list[dict[str, Any]], rest: list[float]
) -> dict[str, Any]:
    """How many rows are not shown, and what they have in all where that adds up."""
    if total is None or query.by == "end":
        left = None
    elif query.new:
        left = round(sum(rest), 3)
    else:
        left = round(max(0, total - sum(row["value"] for row in shown)), 3)
    share = round(left / total, 6) if total and left is not None else None
    return {"count": len(rest), "value": left, "share": share}
