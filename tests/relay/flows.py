"""Batches of flows for tests."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from flowobs import schema
from flowobs.batch import Endpoint, Endpoints, FlowBatch, Strings

WEB = Endpoint(schema.EndpointKind.pod, "", "shop", "web-0", "web", "Deployment", "web", "node-1")
API = Endpoint(schema.EndpointKind.pod, "", "shop", "api-1", "api", "Deployment", "api", "node-2")
DB = Endpoint(schema.EndpointKind.vm, "", "", "legacy-db")


def address(text: str) -> np.ndarray[Any, Any]:
    """An IPv4 address as the 16 bytes of a column."""
    return np.frombuffer(bytes(10) + b"\xff\xff" + bytes(int(p) for p in text.split(".")), "u1")


def table() -> Endpoints:
    """An empty endpoint table."""
    return Endpoints(Strings())


def flows(
    rows: int,
    endpoints: Endpoints | None = None,
    *,
    src: Endpoint = WEB,
    dst: Endpoint = API,
    start_ns: int | None = None,
    first_port: int = 40_000,
    **columns: Any,
) -> FlowBatch:
    """``rows`` TCP flows from ``src`` to ``dst``, one ns apart, told apart by their source port.

    ``columns`` sets whole columns; strings and IPv4 addresses are given as text.
    """
    endpoints = endpoints or table()
    batch = FlowBatch.zeros(rows, endpoints)
    values: dict[str, Any] = {
        "kind": schema.Kind.update,
        "verdict": schema.Verdict.forwarded,
        "reporter": schema.Reporter.source,
        "proto": schema.Protocol.tcp,
        "src_ip": "10.0.0.1",
        "dst_ip": "10.0.0.2",
        "src_port": first_port + np.arange(rows),
        "dst_port": 8080,
        "interface": "veth0",
        "node": "node-1",
        "packets": 2,
        "bytes": 200,
        "reply_packets": 1,
        "reply_bytes": 100,
    } | columns
    begin = time.time_ns() if start_ns is None else start_ns
    batch.columns["time"][:] = begin + np.arange(rows)
    for name, value in values.items():
        column = schema.BY_NAME[name]
        if column.type == "string":
            value = endpoints.strings.id(value)
        elif column.type == "ip":
            value = address(value)
        batch.columns[name][:] = value
    batch.columns["src_endpoint"][:] = endpoints.id(src)
    batch.columns["dst_endpoint"][:] = endpoints.id(dst)
    return batch
