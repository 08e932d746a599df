"""What the answers about measures have in common: time series, top, diff."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import QueryParams

from flowobs.filters import Filter
from flowobs.filters.parameters import PARAMETERS
from flowobs.measures import COUNTS, DIMENSIONS, MEASURES
from flowobs.rows import row_dicts, time_text
from flowobs.times import UNITS_NS, parse_length
from relay.http.errors import ApiError
from relay.http.parameters import check_names, group_of, question, window
from relay.http.queries import Queries, Session
from relay.http.traffic import Key, Row
from relay.http.traffic_sql import EDGE
from relay.store.ddl import TABLE
from relay.store.rollup import ROLLUPS

T = TypeVar("T")

COMMON: Final = {*PARAMETERS, "q", "since", "until", "group", "limit"}
MOST: Final = 20_000
"""Rows of which the largest are chosen: those with trouble and the busiest, if there are more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What each of the answers is asked for: ``from_ns`` <= time < ``to_ns``."""

    filter: Filter
    from_ns: int
    to_ns: int
    group: str
    limit: int


def route(
    queries: Queries,
    path: str,
    asked: Callable[[Request], T],
    build: Callable[[Session, T], bytes],
) -> APIRouter:
    """A route that answers with the JSON which ``build`` makes of what was ``asked``."""
    routes = APIRouter()

    @routes.get(path)
    async def answer(request: Request) -> Response:
        query = asked(request)
        content = await queries.run(request, lambda session: build(session, query))
        headers = {"cache-control": "no-store"}
        return Response(content, media_type="application/json", headers=headers)

    return routes


def asked(
    request: Request,
    more: Collection[str],
    limit: int,
    most: int,
    within: Callable[[QueryParams], tuple[int, int]] = window,
) -> Asked:
    """The common parameters; ``more`` are known, too. Raises ApiError (400) with one sentence."""
    given = request.query_params
    check_names(given, {*COMMON, *more})
    return Asked(question(given), *within(given), group_of(given), _limit(given, limit, most))


def chosen(given: QueryParams, name: str, known: Collection[str], default: str) -> str:
    """One of ``known``. Raises ApiError."""
    text = given.get(name, default)
    if text not in known:
        raise ApiError(400, f"`{name}` cannot be `{text}`; use {', '.join(known)}")
    return text


def measure_of(given: QueryParams) -> str:
    """Raises ApiError."""
    return chosen(given, "measure", MEASURES, "bytes")


def dimension_of(given: QueryParams, *more: str) -> str:
    """``by``: one of ``DIMENSIONS``, or of ``more``, whose first is the default."""
    return chosen(given, "by", (*more, *DIMENSIONS), (*more, *DIMENSIONS)[0])


def length_of(given: QueryParams, name: str) -> int | None:
    """A length of time (ns). Raises ApiError."""
    text = given.get(name)
    if text is None:
        return None
    length = parse_length(text)
    if length is None or not 10**9 <= length <= 10 * 366 * UNITS_NS["d"]:
        raise ApiError(400, f"`{name}` cannot be `{text}`; write a length of time like 30s or 1h")
    return length


def _limit(given: QueryParams, default: int, most: int) -> int:
    text = given.get("limit", str(default))
    if text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most:
        return int(text)
    raise ApiError(400, f"`limit` cannot be `{text}`; use a number from 1 to {most}")


def value(row: Row, measure: str, seconds: float) -> float | None:
    """``measure`` of a row of traffic in ``seconds``; None for a latency that nothing tells."""
    counters = COUNTS.get(measure)
    if counters is None:
        found: float | None = row[measure]
        return found
    return per(seconds, sum([row[name] for name in counters]), measure)


def per(seconds: float, count: float, measure: str) -> float:
    """What was counted in ``seconds``, as ``measure`` tells it."""
    return round(count / seconds, 3) if measure == "rate" else count


def largest(values: Mapping[Key, float | None], limit: int) -> list[Key]:
    """Keys of the ``limit`` largest values, none that is nothing."""
    some = {key: number for key, number in values.items() if number}
    return sorted(some, key=lambda key: (-some[key], key))[:limit]


def named(by: str, key: Key) -> dict[str, Any]:
    """The fields that say what a row is of: ``key`` is its value of ``by``."""
    if by != "edge":
        return {by: key[0]}
    edge = dict(zip(EDGE, key[0], strict=True))
    edge["proto"] = next(row_dicts({"proto": [edge["proto"]]}, 1))["proto"]
    return edge


def span(from_ns: int, to_ns: int, covered_ns: int | None) -> dict[str, Any]:
    """A stretch of time, and from when on the store has it."""
    return {
        "from": time_text(from_ns),
        "to": time_text(to_ns),
        "covered_from": None
        if covered_ns is None or covered_ns >= to_ns
        else time_text(max(from_ns, covered_ns)),
    }


Covered = Literal["all", "part", "none"]


def covered(from_ns: int, to_ns: int, oldest_ns: int | None) -> Covered:
    """How much of a stretch of time the store reaches."""
    if oldest_ns is None or oldest_ns >= to_ns:
        return "none"
    return "all" if oldest_ns <= from_ns else "part"


def oldest(session: Session) -> int | None:
    """When the oldest that any table has was seen (ns), None of an empty store. Blocks."""
    # parts know these without being read
    begins = [f"SELECT toUnixTimestamp64Nano(min(time)) AS ns, '' AS rollup FROM {TABLE}"] + [
        f"SELECT toUnixTimestamp(min(bucket)) * {10**9}, '{rollup.name}' FROM {rollup.name}"
        for rollup in ROLLUPS
    ]
    found = session.query(" UNION ALL ".join(begins), {})
    begin = {rollup: ns for rollup, ns in zip(found["rollup"], found["ns"], strict=True) if ns}
    known = [begin.pop("")] if "" in begin else []
    # a rollup reaches further back if it has a bucket that ends before
    known += [
        int(session.query(f"SELECT toUnixTimestamp64Nano(min(first)) AS ns FROM {rollup.name}"
            f" WHERE bucket = (SELECT min(bucket) FROM {rollup.name})", {})["ns"][0])
        for rollup in ROLLUPS
        if rollup.name in begin and (not known or begin[rollup.name] + rollup.ns <= known[0])
    ]  # fmt: skip
    return min(known, default=None)
