"""GET /api/v1/service-map: who talked to whom, each flow once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

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
from relay.store.names import NODE_FIELDS
from relay.store.rollup import MINUTES

_SHOWN: Final = (
    "kind", "cluster", "namespace", "name", "workload", "workload_kind", "service", "node", "zone",
)  # fmt: skip
"""Attributes of a node."""
# thousands: a dict each takes three times as long
_edge: Callable[..., Any] = msgspec.defstruct("Edge", (*EDGE, *FIELDS), gc=False)


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


def _nodes(table: Table) -> list[dict[str, Any]]:
    if not table.rows:
        return []
    fields = dict(zip(NODE_FIELDS, zip(*table["fields"], strict=True), strict=True))
    named = row_dicts({f"src_{name}": list(fields[name]) for name in _SHOWN}, table.rows)
    return [
        {
            "id": id,
            **{name: known.get(f"src_{name}", "") for name in _SHOWN},
            "kind": known.get("src_kind", "unknown"),
            "addresses": sorted(ip_text(a.packed) for a in addresses),
        }
        for id, addresses, known in zip(table["id"], table["addresses"], named, strict=True)
    ]
