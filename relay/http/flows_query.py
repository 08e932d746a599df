"""The query string of /api/v1/flows, checked and turned into values."""

from __future__ import annotations

import difflib
import time
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from fastapi import Request

from flowobs import schema
from flowobs.filters import EVERYTHING, And, Filter, Match, Op, Or, matches
from flowobs.filters.parameters import PARAMETERS
from relay.http.cursor import Cursor
from relay.http.errors import ApiError
from relay.http.parameters import check_names, flag, question, time_bounds, time_range

Format = Literal["json", "ndjson", "sse", "csv", "arrow"]

LAST: Final = 100
"""How many records are sent when nothing says."""
LAST_SINCE: Final = 10_000
"""How many records are sent when only ``since`` says, in an answer that is not streamed."""
MOST: Final = 100_000
"""Most records of history in one answer that is not streamed."""
ALL: Final = 10**12
STREAMED: Final[tuple[Format, ...]] = ("ndjson", "csv", "arrow")

_MEDIA: dict[str, Format] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "text/event-stream": "sse",
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
}
_NAMES: Final = frozenset(
    {*PARAMETERS, "q", "since", "until", "first", "last", "order", "cursor", "follow", "resume"}
    | {"fields", "format"}
)
_LOST = Match("kind", Op.eq, int(schema.Kind.lost))


@dataclass(frozen=True, slots=True)
class FlowsQuery:
    """What /api/v1/flows was asked for."""

    filter: Filter
    since_ns: int | None
    until_ns: int | None
    count: int
    newest: bool
    """The ``count`` newest ones; else the oldest ones."""
    order_newest: bool
    """Newest first; else oldest first."""
    after: Cursor | None
    follow: bool
    resume: str | None
    """The id of the last event that the reader has got."""
    fields: tuple[str, ...]
    format: Format

    @property
    def bounded(self) -> Filter:
        """The filter within its time bounds and the cursor's."""
        bounds = time_bounds(self.since_ns, self.until_ns)
        if self.after is not None:
            bounds.append(Match("time", Op.le if self.newest else Op.ge, self.after.time_ns))
        return And((self.filter, *bounds))

    @property
    def paged(self) -> bool:
        """Read page by page, as it is longer than what is held in memory for an answer."""
        streamed = self.format == "ndjson" and not self.follow
        return streamed and self.count > LAST_SINCE and self.newest == self.order_newest


def flows_query(request: Request) -> FlowsQuery:
    """Raises ApiError (400) with one sentence."""
    given = request.query_params
    check_names(given, _NAMES)
    now_ns = time.time_ns()
    since_ns, until_ns = time_range(given, now_ns)
    follow = flag(given, "follow")
    if follow and until_ns is not None:
        raise ApiError(400, "`until` ends an answer and `follow` goes on; give one of them")
    format = _format(request, follow)
    count, newest, order_newest, after = _selection(request, follow, since_ns is not None, format)
    if not newest and until_ns is None:
        until_ns = now_ns  # records come in for ever
    resume = given.get("resume") or request.headers.get("last-event-id")
    query = FlowsQuery(
        _filter(request), since_ns, until_ns, count, newest, order_newest, after,
        follow, resume if follow else None, _fields(request, format), format,
    )  # fmt: skip
    held = format not in STREAMED or follow or (format == "ndjson" and newest != order_newest)
    if held and count > MOST:
        if format in STREAMED and not follow:
            order = "newest" if newest else "oldest"
            raise ApiError(
                400,
                f"`{'last' if newest else 'first'}` above {MOST} comes in the order in which"
                f" records are looked for: add order={order} (flows: --{order}-first)",
            )
        raise ApiError(400, _bad_count("last" if newest else "first", str(count)))
    return query


def _selection(
    request: Request, follow: bool, since: bool, request_format: Format
) -> tuple[int, bool, bool, Cursor | None]:
    given = request.query_params
    streamed = request_format in STREAMED and not follow
    first, last = _count(request, "first"), _count(request, "last")
    if first is not None and (last is not None or follow):
        raise ApiError(400, "`first` begins with the oldest; leave out `last` and `follow`")
    order = given.get("order")
    if order not in (None, "newest", "oldest"):
        raise ApiError(400, f"`order` cannot be `{order}`; use newest or oldest")
    if order == "newest" and follow:
        raise ApiError(400, "`follow` goes on with newer records; leave out order=newest")
    after = _cursor(request)
    if after is not None and follow:
        raise ApiError(400, "`cursor` goes on with the past; leave out `follow`")
    if after is not None and request_format in ("csv", "arrow"):
        raise ApiError(400, "`cursor` is for json and ndjson; csv and arrow come whole")
    every = since and streamed and first is None and last is None
    if first is not None or last is not None:
        newest = first is None
    elif after is not None:
        newest = after.newest
    else:
        newest = order == "newest" or (order is None and not every)
    if after is not None and after.newest != newest:
        way = "last" if after.newest else "first"
        raise ApiError(400, f"`cursor` is of an answer with `{way}`; give that again")
    count = first if first is not None else last
    if count is None:
        count = ALL if every else LAST_SINCE if since else 0 if follow else LAST
    return count, newest, order == "newest", after


def _cursor(request: Request) -> Cursor | None:
    text = request.query_params.get("cursor")
    if text is None:
        return None
    try:
        return Cursor.parse(text)
    except ValueError:
        raise ApiError(
            400, "`cursor` is none; give the `next` of the answer before, or leave it out"
        ) from None


def _filter(request: Request) -> Filter:
    filter = question(request.query_params)
    if filter != EVERYTHING and not any(match.field == "kind" for match in matches(filter)):
        # Whoever looks at some flows must see that some may be missing, whatever they filter by.
        return Or((filter, _LOST))
    return filter


def _bad_count(name: str, text: str) -> str:
    return f"`{name}` cannot be `{text}`; use a number up to {MOST}"


def _count(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) < 13:
        return int(text)
    raise ApiError(400, _bad_count(name, text))


def _fields(request: Request, format: Format) -> tuple[str, ...]:
    text = request.query_params.get("fields")
    if text is None:
        return ()
    if format not in ("csv", "arrow"):
        raise ApiError(400, "`fields` are for csv and arrow; a JSON record has all it knows")
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in schema.BY_NAME:
            close = difflib.get_close_matches(name, schema.BY_NAME, 1)
            hint = f"did you mean `{close[0]}`?" if close else "docs/fields.md has them all"
            raise ApiError(400, f"there is no field `{name}`; {hint}")
    return names


def _format(request: Request, follow: bool) -> Format:
    text = request.query_params.get("format")
    if text is None:
        return _accepted(request.headers.get("accept", ""), follow)
    if text not in get_args(Format):
        raise ApiError(400, f"`format` cannot be `{text}`; use {', '.join(get_args(Format))}")
    if follow and text not in ("ndjson", "sse"):
        raise ApiError(
            400, f"{text} has an end and `follow` goes on; use format=ndjson or format=sse"
        )
    return cast(Format, text)


def _accepted(accept: str, follow: bool) -> Format:
    for part in accept.split(","):
        found = _MEDIA.get(part.partition(";")[0].strip().lower())
        if found and not (follow and found not in ("ndjson", "sse")):
            return found
    return "ndjson" if follow else "json"


MEDIA: Final[dict[Format, str]] = {format: media for media, format in _MEDIA.items()}
