"""GET /api/v1/flows: history, live, or history that goes on live."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from flowobs.filters import Filter
from relay.http import export, history, stored
from relay.http.coverage import Coverage
from relay.http.errors import ApiError, broke_off
from relay.http.flows_query import LAST_SINCE, MEDIA, FlowsQuery, Format, flows_query
from relay.http.held import Held, Room
from relay.http.queries import Cancelled, Queries
from relay.hub import Hub, TooManySubscribers, position_ns
from relay.subscription import Chunk, Closed, Subscription, lost_line

KEEP_ALIVE_S: Final = 15.0
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def router(
    hub: Hub,
    queries: Queries,
    begin: Callable[[], int | None],
    keep_alive_s: float = KEEP_ALIVE_S,
) -> APIRouter:
    """The route, over a hub and a store; ``begin`` says when the store's records begin (ns)."""
    routes = APIRouter()
    room = Room()

    @routes.get("/api/v1/flows")
    async def flows(request: Request) -> Response:
        query = flows_query(request)
        coverage = Coverage.now(begin, hub)
        headers = {**_HEADERS, **coverage.headers(query.since_ns)}

        async def fetch(filter: Filter, newest: bool, limit: int) -> list[bytes]:
            return await queries.run(
                request, partial(stored.nearest, filter=filter, newest=newest, limit=limit)
            )

        async def count(filter: Filter) -> int:
            return await queries.run(request, partial(stored.count, filter=filter))

        if query.format in ("csv", "arrow"):
            run = partial(queries.run, request)
            return await _begun(export.chunks(query, run, run), query.format, headers)
        if query.paged:
            pages = history.pages(hub, query, fetch)
            return await _begun(_lines(pages), query.format, headers)
        held = Held(room)
        page: history.Page | None = None

        def end() -> None:
            held.end()
            if page is not None and page.live is not None:
                hub.unsubscribe(query.filter, page.live)

        try:
            async with room.turn(query.count):
                if query.resume is not None:
                    page = await _resumed(hub, query, query.resume, fetch, count, held.add)
                elif query.follow:
                    page = await history.followed(hub, query, fetch, held.add)
                else:
                    page = await history.whole(hub, query, fetch, held.add)
        except TooManySubscribers:
            most = hub.limits.subscribers
            raise ApiError(503, f"{most} others are following already; try again later") from None
        except BaseException:
            end()
            raise
        headers["flowobs-more"] = str(page.next is not None).lower()
        if page.next is not None:
            headers["flowobs-next"] = page.next.text
        if query.format == "json":
            body = _json(page, held, coverage.document(query.since_ns))
        else:
            body = _body(page, held, query.format, hub, keep_alive_s)
        return _Stream(body, MEDIA[query.format], headers, end)

    return routes


class _Broken(Exception):
    """An answer that began and cannot go on."""


class _Stream(StreamingResponse):
    """A streamed body that is cleaned up also when the client left before the first byte."""

    def __init__(
        self,
        body: AsyncIterator[bytes],
        media_type: str,
        headers: dict[str, str],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(body, media_type=media_type, headers=headers)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except (_Broken, Cancelled):
            pass  # an answer without its end is seen to be one
        finally:
            self._on_end()


async def _begun(body: AsyncIterator[bytes], format: Format, headers: dict[str, str]) -> Response:
    """A response once its first part is there: until then an error has a status of its own."""
    first = await anext(body)

    async def rest() -> AsyncIterator[bytes]:
        yield first
        try:
            async for part in body:
                yield part
        except ApiError as error:
            broke_off(error.sentence)
            if format == "ndjson":
                yield json.dumps({"error": error.sentence}).encode() + b"\n"
            raise _Broken from None

    return _Stream(rest(), MEDIA[format], headers)


async def _lines(pages: AsyncIterator[history.Page]) -> AsyncIterator[bytes]:
    async for page in pages:
        lines = page.lines
        if page.missed:
            lines = [*lines, lost_line(page.missed, "live_buffer")]
        yield Chunk(lines).ndjson if lines else b""


async def _resumed(
    hub: Hub,
    query: FlowsQuery,
    position: str,
    fetch: history.FetchLines,
    count: Callable[[Filter], Awaitable[int]],
    hold: history.Hold,
) -> history.Page:
    """What a follower goes on with that had got as far as ``position``."""
    seen = hub.since(position)
    if seen is not None:
        return await history.resume(hub, query, seen, hold)
    at = position_ns(position)
    if at is None:
        raise ApiError(400, "`resume` is no id of an event; leave it out")
    # the relay began anew: its memory did, too, but the store goes on
    later = replace(query, since_ns=at + 1, count=LAST_SINCE)
    stored = await count(later.bounded)
    page = await history.followed(hub, later, fetch, hold)
    return page._replace(missed=page.missed + max(0, stored - later.count))


async def _json(page: history.Page, held: Held, coverage: dict[str, Any]) -> AsyncIterator[bytes]:
    rest = {
        "more": page.next is not None,
        "next": page.next.text if page.next is not None else None,
        "coverage": coverage,
    }
    yield b'{"flows":['
    comma = b""
    for piece in held.pieces(page.lines):
        yield comma + b",".join(piece)
        comma = b","
    yield b"]," + json.dumps(rest).encode()[1:]


async def _body(
    page: history.Page, held: Held, format: Format, hub: Hub, keep_alive_s: float
) -> AsyncIterator[bytes]:
    def rendered(chunk: Chunk) -> bytes:
        return chunk.sse if format == "sse" else chunk.ndjson

    def idle(position: str) -> bytes:
        return f"event: alive\nid: {position}\ndata:\n\n".encode() if format == "sse" else b"\n"

    if page.missed:
        yield rendered(Chunk([lost_line(page.missed, "live_buffer")]))
    for piece in held.pieces(page.lines):
        # with the last of them, lest who breaks off here gets them again
        done = page.live is not None and not page.lines
        yield rendered(Chunk(piece, page.position if done else ""))
    if page.live is not None:
        yield idle(page.position)  # the client sees at once that it is connected
        async for chunk in _chunks(page.live, keep_alive_s):
            # nothing waits: all before the hub's position was sent
            yield rendered(chunk) if chunk is not None else idle(hub.position)


async def _chunks(live: Subscription, keep_alive_s: float) -> AsyncIterator[Chunk | None]:
    while True:
        try:
            yield await live.next(keep_alive_s)
        except Closed:
            return
