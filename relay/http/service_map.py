"""GET /api/v1/service-map: who talked to whom, each flow once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from flowobs.filters import And, matches, where
from flowobs.rows import ip_text, row_dicts, time_text
from flowobs.schema import Reporter, enum_name
from relay.http import rollup_sql
from relay.http.map_sql import MAX_EDGES, edges_sql, ends_sql, nodes_sql
from relay.http.parameters import MapQuery, map_query, time_bounds
from relay.http.queries import Queries, Session
from relay.store import Table
from relay.store.ddl import TABLE
from relay.store.names import NODE_FIELDS
from relay.store.plan import Plan, Slice

_NUMBERS: Final = (
    "flows", "closes", "packets", "bytes", "reply_packets", "reply_bytes",
    "drops", "resets", "retransmits", "fails", "connect_ms", "rtt_ms",
)  # fmt: skip


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
    # rollups know the ends and the channel; what asks for more is asked of the records
    if all(match.field in rollup_sql.FIELDS for match in matches(query.filter)):
        plan = session.plan(query.from_ns, query.to_ns)
    else:
        plan = Plan((Slice(TABLE, query.from_ns, query.to_ns),))
    if plan.table == TABLE:
        bounded = And((query.filter, *time_bounds(plan.from_ns, plan.to_ns)))
        condition, parameters = where(bounded)
        sql, ends = edges_sql(condition), ends_sql(condition)
    else:
        condition, parameters = where(query.filter)
        sql = rollup_sql.edges_sql(plan.slices, condition)
        ends = rollup_sql.node_ends_sql(plan.slices, condition)
    edges = session.query(sql, parameters)
    nodes = session.query(nodes_sql(ends), parameters) if edges.rows else Table({}, 0)
    shown = min(edges.rows, MAX_EDGES)
    rows = [_edge(edges.columns, i) for i in range(shown)]
    used = {edge[end] for edge in rows for end in ("source", "destination")}
    return msgspec.json.encode(
        {
            "from": time_text(plan.from_ns),
            "to": time_text(plan.to_ns),
            "table": plan.table,
            "nodes": [n for n in _nodes(nodes) if n["id"] in used],
            "edges": rows,
            "more": edges.rows > shown,
        }
    )


def _edge(columns: Mapping[str, list[Any]], i: int) -> dict[str, Any]:
    proto = next(row_dicts({"proto": [columns["proto"][i]]}, 1))["proto"]
    return {
        "source": columns["source"][i],
        "destination": columns["destination"][i],
        "proto": proto,
        "port": columns["port"][i],
        **{name: columns[name][i] for name in _NUMBERS},
        "drop_reasons": dict(columns["drop_reasons"][i]),
        "reporter": enum_name(Reporter, columns["reporter"][i]),
        "first_seen": time_text(columns["first_seen"][i]),
        "last_seen": time_text(columns["last_seen"][i]),
    }


def _nodes(table: Table) -> list[dict[str, Any]]:
    nodes = []
    for i in range(table.rows):
        ends = {f"src_{name}": [table.columns[name][i]] for name in NODE_FIELDS}
        named = next(row_dicts(ends, 1))
        node = {name: named.get(f"src_{name}", "") for name in NODE_FIELDS}
        node["kind"] = node["kind"] or "unknown"
        addresses = sorted(ip_text(a.packed) for a in table.columns["addresses"][i])
        nodes.append({"id": table.columns["id"][i], **node, "addresses": addresses})
    return nodes
