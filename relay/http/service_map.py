"""GET /api/v1/service-map: who talked to whom, each flow once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from flowobs.rows import ip_text, row_dicts
from relay.http.parameters import MapQuery, map_query
from relay.http.queries import Queries, Session
from relay.http.traffic import FIELDS, Traffic, traffic
from relay.http.traffic_sql import EDGE
from relay.http.trends import oldest, span
from relay.store import Table
from relay.store.names import SHOWN
from relay.store.rollup import MINUTES

# thousands: a dict each takes three times as long
_edge: Callable[..., Any] = msgspec.defstruct("Edge", (*EDGE, *FIELDS), gc=False)
_node: Callable[..., Any] = msgspec.defstruct("Node", ("id", *SHOWN, "addresses"), gc=False)


def router(queries: Queries) -> APIRouter:
    """The route, over a store."""
    routes = APIRouter()

    @routes.get("/api/v1/service-map")
    async def service_map(request: Request) -> Response:
        query = map_query(request)
        answer = await queries.run(request, lambda session: build(session, query))
        return Response(
            answer, media_type="application/json", headers={"cache-control": "no-store"}
        )

    return routes


def build(session: Session, query: MapQuery) -> bytes:
    """The map as JSON. Blocks; raises StoreError."""
    found = traffic(
        session, query.filter, query.from_ns, query.to_ns, group=query.group, latency=query.latency
    )
    return msgspec.json.encode(
        {
            **span(found.plan.from_ns, found.plan.to_ns, _covered(session, found)),
            "table": found.plan.table,
            "group": query.group,
            "nodes": _nodes(found.nodes),
            "edges": _edges(found),
            "more": found.more,
        }
    )


def _covered(session: Session, found: Traffic) -> int | None:
    """From when on (ns) the store has what was asked for."""
    from_ns = found.plan.from_ns
    # who was seen that early needs no question
    if min(found.columns["first_seen"], default=2**63) < from_ns + MINUTES.ns:
        return from_ns
    return oldest(session)


def _edges(found: Traffic) -> list[Any]:
    if not found.keys:
        return []
    columns = dict(zip(EDGE, map(list, zip(*found.keys, strict=True)), strict=True))
    columns |= found.columns
    columns["proto"] = list(map(_proto, columns["proto"]))
    for name in ("first_seen", "last_seen"):  # thousands: `time_text` takes ten times as long
        times = np.array(columns[name], "<i8").view("<M8[ns]")
        columns[name] = [f"{text}Z" for text in np.datetime_as_string(times).tolist()]
    return list(map(_edge, *columns.values()))


@cache  # one of 256
def _proto(number: int) -> Any:
    return next(row_dicts({"proto": [number]}, 1))["proto"]


@cache
def _kind(number: int) -> Any:
    return next(row_dicts({"src_kind": [number]}, 1)).get("src_kind", "unknown")


def _nodes(table: Table) -> list[Any]:
    return [
        _node(id, _kind(kind), *fields, sorted(map(ip_text, addresses)))
        for id, (kind, *fields), addresses in zip(
            table["id"], table["fields"], table["addresses"], strict=True
        )
    ]
