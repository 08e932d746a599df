"""The query strings of /api/v1/flows, service-map and hints, checked and turned into values."""

from __future__ import annotations

import difflib
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from fastapi import Request
from starlette.datastructures import QueryParams

from flowobs import schema, times
from flowobs.filters import (
    EVERYTHING,
    And,
    Filter,
    FilterError,
    Match,
    Op,
    Or,
    all_of,
    from_parameters,
    matches,
)
from flowobs.filters.parameters import PARAMETERS
from flowobs.query import QueryError, parse
from flowobs.query.words import MOST_CHARACTERS
from relay.http.errors import ApiError

Format = Literal["json", "ndjson", "sse"]

LAST: Final = 100
"""How many records are sent when neither ``last`` nor ``since`` says."""
LAST_SINCE: Final = 10_000
"""How many records are sent when only ``since`` says."""
MOST: Final = 100_000
"""Most records of history in one answer."""

_MEDIA: dict[str, Format] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "text/event-stream": "sse",
}
_MAP_NS = 5 * 60 * 10**9
_LOST = Match("kind", Op.eq, int(schema.Kind.lost))


@dataclass(frozen=True, slots=True)
class FlowsQuery:
    """What /api/v1/flows was asked for."""

    filter: Filter
    since_ns: int | None
    until_ns: int | None
    last: int
    follow: bool
    format: Format

    @property
    def bounded(self) -> Filter:
        """The filter within its time bounds."""
        return And((self.filter, *time_bounds(self.since_ns, self.until_ns)))


def flows_query(request: Request) -> FlowsQuery:
    """Raises ApiError (400) with one sentence."""
    given = request.query_params
    check(given, {*PARAMETERS, "q", "since", "until", "last", "follow", "format"})
    now_ns = time.time_ns()
    since_ns, until_ns = _range(given, now_ns)
    follow = _flag(given, "follow")
    if follow and until_ns is not None:
        raise ApiError(400, "`until` ends an answer and `follow` goes on; give one of them")
    last = _count(given)
    if last is None:
        last = LAST_SINCE if since_ns is not None else 0 if follow else LAST
    filter = _filter(given)
    if filter != EVERYTHING and not any(match.field == "kind" for match in matches(filter)):
        # Whoever looks at some flows must see that some may be missing, whatever they filter by.
        filter = Or((filter, _LOST))
    return FlowsQuery(filter, since_ns, until_ns, last, follow, _format(request, follow))


@dataclass(frozen=True, slots=True)
class MapQuery:
    """What /api/v1/service-map was asked for: ``from_ns`` <= time < ``to_ns``."""

    filter: Filter
    from_ns: int
    to_ns: int


def map_query(request: Request) -> MapQuery:
    """Raises ApiError (400) with one sentence."""
    given = request.query_params
    check(given, {*PARAMETERS, "q", "since", "until"})
    return MapQuery(_filter(given), *_window(given))


@dataclass(frozen=True, slots=True)
class HintsQuery:
    """What /api/v1/hints was asked for: a cursor before column ``at`` of ``text``."""

    text: str
    at: int
    from_ns: int
    to_ns: int


def hints_query(request: Request) -> HintsQuery:
    """Raises ApiError (400) with one sentence."""
    given = request.query_params
    check(given, {"q", "at", "since", "until"})
    text = given.get("q", "")
    if len(text) > MOST_CHARACTERS:
        raise ApiError(400, f"`q` is longer than {MOST_CHARACTERS} characters; ask for less")
    at = given.get("at", str(len(text) + 1))
    if not (at.isascii() and at.isdecimal() and 1 <= int(at[:9]) <= len(text) + 1):
        raise ApiError(400, f"`at` cannot be `{at}`; use a column from 1 to {len(text) + 1}")
    return HintsQuery(text, int(at), *_window(given))


def time_bounds(since_ns: int | None, until_ns: int | None) -> list[Filter]:
    """Matches for ``since_ns`` <= time < ``until_ns``."""
    bounds: list[Filter] = []
    if since_ns is not None:
        bounds.append(Match("time", Op.ge, since_ns))
    if until_ns is not None:
        bounds.append(Match("time", Op.lt, until_ns))
    return bounds


def parse_time(name: str, text: str, now_ns: int) -> int:
    """UTC ns of an RFC 3339 time or of how long ago. Raises ApiError."""
    found = times.parse_time(text, now_ns)
    if found is not None:
        return found
    raise ApiError(400, f"`{name}` cannot be `{text}`; write `5m` or `2026-01-31T12:00:00Z`")


def _range(given: QueryParams, now_ns: int) -> tuple[int | None, int | None]:
    since, until = given.get("since"), given.get("until")
    since_ns = None if since is None else parse_time("since", since, now_ns)
    until_ns = None if until is None else parse_time("until", until, now_ns)
    if since_ns is not None and (now_ns if until_ns is None else until_ns) <= since_ns:
        raise ApiError(400, "`since` is not before `until`; swap them or leave one out")
    return since_ns, until_ns


def _window(given: QueryParams) -> tuple[int, int]:
    """From when until when, by default the last five minutes."""
    now_ns = time.time_ns()
    since_ns, until_ns = _range(given, now_ns)
    to_ns = now_ns if until_ns is None else until_ns
    return to_ns - _MAP_NS if since_ns is None else since_ns, to_ns


def _filter(given: QueryParams) -> Filter:
    values = {name: sorted(set(given.getlist(name))) for name in PARAMETERS if name in given}
    try:
        asked = parse(given.get("q", ""))
        named = from_parameters(values)
    except QueryError as error:
        raise ApiError(400, error.sentence, error.column) from None
    except FilterError as error:
        raise ApiError(400, str(error)) from None
    parts = [part for part in (named, asked) if part != EVERYTHING]
    return all_of(parts)


def check(given: QueryParams, known: Collection[str]) -> None:
    # a misspelt filter that is ignored would show flows nobody asked for
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = (
                f"did you mean `{close[0]}`?" if close else f"there are {', '.join(sorted(known))}"
            )
            raise ApiError(400, f"there is no parameter `{name}`; {hint}")
        if name not in PARAMETERS and len(given.getlist(name)) > 1:
            raise ApiError(400, f"`{name}` is given twice; give it once")


def _flag(given: QueryParams, name: str) -> bool:
    text = given.get(name, "false").lower()
    if text in ("true", "1"):
        return True
    if text in ("false", "0"):
        return False
    raise ApiError(400, f"`{name}` cannot be `{text}`; use true or false")


def _count(given: QueryParams) -> int | None:
    text = given.get("last")
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= MOST:
        return int(text)
    raise ApiError(400, f"`last` cannot be `{text}`; use a number up to {MOST}")


def _format(request: Request, follow: bool) -> Format:
    text = request.query_params.get("format")
    if text is None:
        return _accepted(request.headers.get("accept", ""), follow)
    if text not in get_args(Format):
        raise ApiError(400, f"`format` cannot be `{text}`; use json, ndjson or sse")
    if text == "json" and follow:
        raise ApiError(400, "json has an end and `follow` goes on; use format=ndjson or format=sse")
    return cast(Format, text)


def _accepted(accept: str, follow: bool) -> Format:
    for part in accept.split(","):
        found = _MEDIA.get(part.partition(";")[0].strip().lower())
        if found and not (found == "json" and follow):
            return found
    return "ndjson" if follow else "json"
