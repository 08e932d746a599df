"""Records like those of a busy cluster, always the same for the same seed.

1,000 pods of 200 workloads, 3,000 Zipf-distributed edges. Most records are of short connections
(open, updates, close), a third of long ones, one for each edge, which began an hour or two before
all records and never close; both ends' agents tell of each, and saw the same packets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowobs import schema
from flowobs.batch import DTYPES, Endpoint, Endpoints, FlowBatch, Strings

PODS, WORKLOADS, NAMESPACES, EDGES = 1000, 200, 20, 3000
_SHARE_LONG = 0.3
_EPHEMERAL = 32_768
_LONG_NS = 3600 * 10**9
_RECORDS = 5
"""Of a short connection at one end: open, three updates, close."""


class Traffic:
    """A source of batches that share an endpoint table."""

    def __init__(
        self, seed: int = 1, *, nodes: int = 50, pods: int = PODS, edges: int = EDGES
    ) -> None:
        self._rng = rng = np.random.default_rng(seed)
        self.endpoints = table = Endpoints(Strings())
        self.names = [f"workload-{i % WORKLOADS}-{i:08x}" for i in range(pods)]
        self._pods = np.array(
            [
                table.id(
                    Endpoint(
                        schema.EndpointKind.pod,
                        "prod",
                        f"ns-{i % NAMESPACES}",
                        self.names[i],
                        f"workload-{i % WORKLOADS}",
                        "Deployment",
                        f"service-{i % WORKLOADS}",
                        f"node-{i % nodes}",
                    )
                )
                for i in range(pods)
            ],
            "<u4",
        )
        string = table.strings.id
        self._nodes = np.array([string(f"node-{i % nodes}") for i in range(pods)], "<u4")
        self._interfaces = np.array([string(f"veth{i:x}") for i in range(pods)], "<u4")
        self._reason = string("NETFILTER_DROP")
        self._addresses = np.zeros((pods, 16), "u1")
        self._addresses[:, 10:12] = 255
        self._addresses[:, 12] = 10
        self._addresses[:, 13:15] = np.stack(np.divmod(np.arange(pods), 256), 1)
        self._addresses[:, 15] = rng.integers(1, 255, pods)
        self._ends = rng.integers(0, pods, (2, edges))
        weights = 1 / np.arange(1, edges + 1) ** 0.8
        self._weights = np.cumsum(weights / weights.sum())
        self._ports = rng.choice([80, 443, 8080, 5432, 6379, 53], edges)
        self._rtt_us = rng.lognormal(6, 1, edges)
        self._age_ns = rng.integers(_LONG_NS, 2 * _LONG_NS, edges)
        self._first_ns: int | None = None

    def batch(self, rows: int, start_ns: int, span_ns: int) -> FlowBatch:
        """``rows`` records of ``span_ns`` nanoseconds from ``start_ns`` on, by time."""
        rng = self._rng
        short = -(-int(rows * (1 - _SHARE_LONG)) // (2 * _RECORDS))
        # a connection's records, as told by both ends
        edge = np.repeat(self._edges(short), 2 * _RECORDS)
        port = np.repeat(rng.integers(32768, 60999, short), 2 * _RECORDS)
        step = np.tile(np.repeat(np.arange(_RECORDS), 2), short)
        begin = np.repeat(rng.random(short), 2 * _RECORDS)
        at = np.minimum(begin + step * (10**8 / span_ns), 1)
        kind = np.array([1, 2, 2, 2, 3], "u1")[step]
        reporter = np.tile(np.array([1, 2], "u1"), short * _RECORDS)
        edge, port, at, kind, reporter = (a[:rows] for a in (edge, port, at, kind, reporter))
        step = np.concatenate((step[:rows], np.zeros(max(0, rows - len(step)), step.dtype)))
        long = rows - len(edge)
        pairs = -(-long // 2)
        more = np.repeat(self._edges(pairs), 2)[:long]
        edge = np.concatenate((edge, more))
        port = np.concatenate((port, 30_000 + more % 2000))
        at = np.concatenate((at, np.repeat(rng.random(pairs), 2)[:long]))
        kind = np.concatenate((kind, np.full(long, 2, "u1")))
        reporter = np.concatenate((reporter, np.tile(np.array([1, 2], "u1"), pairs)[:long]))
        order = np.argsort(at, kind="stable")
        edge, port, at, kind, reporter, step = (
            a[order] for a in (edge, port, at, kind, reporter, step)
        )
        kind = np.where((kind == 2) & (rng.random(rows) < 0.01), schema.Kind.drop, kind)
        return self._batch(edge, port, kind, reporter, step, start_ns + (at * span_ns).astype("i8"))

    def _edges(self, count: int) -> Any:
        return np.searchsorted(self._weights, self._rng.random(count)).clip(
            0, len(self._weights) - 1
        )

    def _batch(
        self, edge: Any, port: Any, kind: Any, reporter: Any, step: Any, time: Any
    ) -> FlowBatch:
        rng, rows = self._rng, len(edge)
        if self._first_ns is None:
            self._first_ns = int(time[0])
        source, destination = self._ends[0][edge], self._ends[1][edge]
        seen_for = np.where(reporter == 1, source, destination)
        counts = (kind == schema.Kind.update) | (kind == schema.Kind.close)
        drop = kind == schema.Kind.drop
        # the handshake is in a short connection's first update; its answer is told from then on
        told = counts & (port >= _EPHEMERAL)
        first = told & (step == 1)
        # the farther, the slower: each edge has a round trip of its own, which varies by half
        rtt_us = self._rtt_us[edge] * rng.lognormal(0, 0.5, rows)
        packets = np.repeat(rng.geometric(0.1, -(-rows // 2)), 2)[:rows] * counts
        lasted = np.where(
            port >= _EPHEMERAL,
            step * 10**8 + rng.integers(0, 10**8, rows),
            time - self._first_ns + self._age_ns[edge],
        )
        columns = {
            "time": time,
            "kind": kind,
            "verdict": np.where(drop, 2, 1),
            "reporter": reporter,
            "proto": np.full(rows, 6),
            "src_ip": self._addresses[source],
            "dst_ip": self._addresses[destination],
            "src_port": port,
            "dst_port": self._ports[edge],
            "interface": self._interfaces[seen_for],
            "node": self._nodes[seen_for],
            "packets": packets,
            "bytes": packets * rng.integers(60, 1400, rows),
            "reply_packets": packets,
            "reply_bytes": packets * rng.integers(60, 1400, rows),
            "tcp_flags": np.where(first, 0x1A, np.where(kind == schema.Kind.close, 0x11, 0x18)),
            "reply_tcp_flags": np.where(first, 0x12, 0x18),
            "connect_ns": told * (rtt_us * 1200).astype("i8"),
            "src_srtt_us": (counts & (reporter == 1)) * rtt_us.astype("i8"),
            "dst_srtt_us": (counts & (reporter == 2)) * rtt_us.astype("i8"),
            "duration": lasted * counts,
            "drop_reason": drop * self._reason,
            "src_cookie": edge * 65536 + port,
            "src_endpoint": self._pods[source],
            "dst_endpoint": self._pods[destination],
        }
        batch = FlowBatch.zeros(rows, self.endpoints)
        types = {c.name: c.type for c in schema.RECORD_COLUMNS} | dict.fromkeys(
            schema.ENDPOINT_WIRE, "u32"
        )
        for name, values in columns.items():
            batch.columns[name] = np.ascontiguousarray(values, DTYPES[types[name]])
        return batch
