"""Query strings, checked and turned into values: what questions share, the map's and the hints'."""

from __future__ import annotations

import difflib
import time
from collections.abc import Collection
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import QueryParams

from flowobs import times
from flowobs.filters import (
    EVERYTHING,
    Filter,
    FilterError,
    Match,
    Op,
    all_of,
    from_parameters,
)
from flowobs.filters.parameters import PARAMETERS
from flowobs.query import QueryError, parse
from flowobs.query.words import MOST_CHARACTERS
from flowobs.times import parse_length
from relay.http.errors import ApiError
from relay.store.names import GROUPS, LABEL
from relay.store.plan import LEAST_NS
from relay.store.rollup import MINUTES

_MAP_NS = 5 * 60 * 10**9


@dataclass(frozen=True, slots=True)
class MapQuery:
    """What /api/v1/service-map was asked for: ``from_ns`` <= time < ``to_ns``."""

    filter: Filter
    from_ns: int
    to_ns: int
    group: str = "pod"
    """What ends are put together by: one of ``GROUPS``, or ``label:KEY``."""
    latency: bool = True


def map_query(request: Request) -> MapQuery:
    """Raises ApiError (400) with one sentence."""
    given = request.query_params
    check_names(given, {*PARAMETERS, "q", "since", "until", "group", "latency"})
    latency = flag(given, "latency", default="true")
    return MapQuery(question(given), *whole_minutes(given), group=group_of(given), latency=latency)


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
    check_names(given, {"q", "at", "since", "until"})
    text = given.get("q", "")
    if len(text) > MOST_CHARACTERS:
        raise ApiError(400, f"`q` is longer than {MOST_CHARACTERS} characters; ask for less")
    at = given.get("at", str(len(text) + 1))
    if not (at.isascii() and at.isdecimal() and 1 <= int(at[:9]) <= len(text) + 1):
        raise ApiError(400, f"`at` cannot be `{at}`; use a column from 1 to {len(text) + 1}")
    return HintsQuery(text, int(at), *window(given))


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


def time_range(given: QueryParams, now_ns: int) -> tuple[int | None, int | None]:
    """``since`` and ``until`` as UTC ns. Raises ApiError."""
    since, until = given.get("since"), given.get("until")
    since_ns = None if since is None else parse_time("since", since, now_ns)
    until_ns = None if until is None else parse_time("until", until, now_ns)
    if since_ns is not None and (now_ns if until_ns is None else until_ns) <= since_ns:
        raise ApiError(400, "`since` is not before `until`; swap them or leave one out")
    return since_ns, until_ns


def window(given: QueryParams) -> tuple[int, int]:
    """From when until when (UTC ns), by default the last five minutes. Raises ApiError."""
    now_ns = time.time_ns()
    since_ns, until_ns = time_range(given, now_ns)
    to_ns = now_ns if until_ns is None else until_ns
    return to_ns - _MAP_NS if since_ns is None else since_ns, to_ns


def whole_minutes(given: QueryParams) -> tuple[int, int]:
    """:func:`window`, which begins with its minute unless ``since`` is a time: ``15m`` may be some
    seconds more, and the minute's records need not be read. Raises ApiError."""
    from_ns, to_ns = window(given)
    ago = "since" not in given or parse_length(given["since"]) is not None
    if ago and to_ns - from_ns >= LEAST_NS:
        from_ns -= from_ns % MINUTES.ns
    return from_ns, to_ns


def question(given: QueryParams) -> Filter:
    """What ``q`` and the filters ask for. Raises ApiError."""
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


def check_names(given: QueryParams, known: Collection[str]) -> None:
    """Refuse what is not known or given twice. Raises ApiError."""
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


def group_of(given: QueryParams) -> str:
    """One of ``GROUPS``, or ``label:KEY``. Raises ApiError."""
    text = given.get("group", "pod")
    if text in GROUPS or (text.startswith(LABEL) and text != LABEL):
        return text
    raise ApiError(
        400, f"`group` cannot be `{text}`; use {', '.join(GROUPS)} or a label: label:app"
    )


def flag(given: QueryParams, name: str, default: str = "false") -> bool:
    """true or false. Raises ApiError."""
    text = given.get(name, default).lower()
    if text in ("true", "1"):
        return True
    if text in ("false", "0"):
        return False
    raise ApiError(400, f"`{name}` cannot be `{text}`; use true or false")
