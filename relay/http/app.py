"""The FastAPI app: all routes over the relay's parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry

import flowobs
from relay.http import (
    diff,
    errors,
    flows,
    hints,
    service_map,
    status,
    timeseries,
    top,
    web,
    whois,
)
from relay.http.queries import Cancelled, Queries
from relay.http.status import Status
from relay.hub import Hub


def create_app(
    hub: Hub,
    queries: Queries,
    state: Status,
    registry: CollectorRegistry,
    ui: Path | None,
    begin: Callable[[], int | None],
    keep_alive_s: float = flows.KEEP_ALIVE_S,
    explain: whois.Explain | None = None,
) -> FastAPI:
    """The API of docs/api.md and, with ``ui`` (the folder with its index.html), the web map.

    ``begin`` says when the store's records begin (UTC ns, None: not known); ``explain`` asks the
    relay's own table of names, where it has one.
    """
    # the interactive API pages load scripts from elsewhere: the relay must work without internet
    app = FastAPI(
        title="flowobs",
        version=flowobs.__version__,
        openapi_url=None,
    )
    errors.install(app)
    app.add_exception_handler(Cancelled, _nobody_waits)
    app.include_router(flows.router(hub, queries, begin, keep_alive_s))
    app.include_router(service_map.router(queries))
    for part in (timeseries, top, diff):
        app.include_router(part.router(queries))
    app.include_router(hints.router(queries))
    app.include_router(whois.router(hub, queries, explain))
    app.include_router(status.router(state, registry))
    web.install(app, ui)
    return app


def _nobody_waits(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # never seen: it only keeps a traceback out of the log
