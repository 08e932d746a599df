"""GET /api/v1/flows: history, live, or history that goes on live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from flowobs.filters import Filter
from relay.http import history
from relay.http.errors import ApiError
from relay.http.parameters import FlowsQuery, Format, flows_query
from relay.http.queries import Queries
from relay.http.stored import newest
from relay.hub import Hub, TooManySubscribers
from relay.subscription import Chunk, Closed, Subscription, lost_line

KEEP_ALIVE_S: Final = 15.0
_CHUNK_ROWS: Final = 1_000
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_MEDIA: dict[Format, str] = {"ndjson": "application/x-ndjson", "sse": "text/event-stream"}
_IDLE: dict[Format, bytes] = {"ndjson": b"\n", "sse": b": still here\n\n"}


def router(hub: Hub, queries: Queries, keep_alive_s: float = KEEP_ALIVE_S) -> APIRouter:
    """The route, over a hub and a store."""
    routes = APIRouter()

    @routes.get("/api/v1/flows")
    async def flows(request: Request) -> Response:
        query = flows_query(request)

        async def fetch(filter: Filter, limit: int) -> list[bytes]:
            return await queries.run(request, lambda session: newest(session, filter, limit))

        try:
            page = await history.read(hub, query, fetch)
        except TooManySubscribers:
            most = hub.limits.subscribers
            raise ApiError(503, f"{most} others are following already; try again later") from None
        headers = {**_HEADERS, "flowobs-more": str(page.more).lower()}
        if query.format == "json":
            return Response(_json(page), media_type="application/json", headers=headers)

        def end() -> None:
            if page.live is not None:
                hub.unsubscribe(query.filter, page.live)

        return _Stream(_body(page, query, keep_alive_s), _MEDIA[query.format], headers, end)

    return routes


class _Stream(StreamingResponse):
    """A streamed body that is cleaned up also when the client left before the first byte."""

    def __init__(
        self,
        body: AsyncIterator[bytes],
        media_type: str,
        headers: dict[str, str],
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(body, media_type=media_type, headers=headers)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


def _json(page: history.Page) -> bytes:
    more = b"true" if page.more else b"false"
    return b'{"flows":[' + b",".join(page.lines) + b'],"more":' + more + b"}"


async def _body(page: history.Page, query: FlowsQuery, keep_alive_s: float) -> AsyncIterator[bytes]:
    def rendered(chunk: Chunk) -> bytes:
        return chunk.sse if query.format == "sse" else chunk.ndjson

    for at in range(0, len(page.lines), _CHUNK_ROWS):
        yield rendered(Chunk(page.lines[at : at + _CHUNK_ROWS]))
    if page.missed:
        yield rendered(Chunk([lost_line(page.missed, "live_buffer")]))
    if page.live is not None:
        if not page.lines:
            yield _IDLE[query.format]  # the client sees at once that it is connected
        async for chunk in _chunks(page.live, keep_alive_s):
            yield rendered(chunk) if chunk is not None else _IDLE[query.format]


async def _chunks(live: Subscription, keep_alive_s: float) -> AsyncIterator[Chunk | None]:
    while True:
        try:
            yield await live.next(keep_alive_s)
        except Closed:
            return
