"""What the store holds equals what the kernel counted: connections, packets, bytes; with both
loaders.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from tests.e2e.lab import OF_ANYBODY, V4, V6, Lab, stack

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow, pytest.mark.timeout(240)]

CONNECTIONS = 1000  # of each address family


@pytest.mark.parametrize("loader", ["core", pytest.param("bcc", marks=pytest.mark.bcc)])
def test_two_thousand_connections_are_counted_exactly(loader: str) -> None:
    with Lab() as lab, stack(lab, loader=loader, drain_interval=1) as flowobs:
        lab.server(V4["b"], 8080)
        lab.server(V6["b"], 8080)
        before = {v: lab.counters(v) for v in ("va", "vb")}
        lab.client(V4["b"], 8080, CONNECTIONS)
        lab.client(V6["b"], 8080, CONNECTIONS)
        flowobs.settle()
        rows = flowobs.rows()
        after = {v: lab.counters(v) for v in ("va", "vb")}

        kinds = Counter((r["reporter"], r["kind"]) for r in rows if r["proto"] == "tcp")
        for side in ("source", "destination"):
            assert kinds[side, "open"] == 2 * CONNECTIONS
            assert kinds[side, "close"] == 2 * CONNECTIONS
        assert not kinds["transit", "open"]

        names = {(r["src_name"], r["dst_name"], r["dst_port"]) for r in rows if r["kind"] == "open"}
        assert names == {("a-0", "b-0", 8080)}

        sums: dict[str, Counter[str]] = defaultdict(Counter)
        for r in rows:
            for unit in ("packets", "bytes", "reply_packets", "reply_bytes"):
                sums[r.get("interface", "")][unit] += r[unit]
        for interface, forward, back in (("va", "rx", "tx"), ("vb", "tx", "rx")):
            for unit in ("packets", "bytes"):
                moved = {
                    s: after[interface][f"{s}_{unit}"] - before[interface][f"{s}_{unit}"]
                    for s in ("rx", "tx")
                }
                assert sums[interface][unit] == moved[forward], (interface, unit)
                assert sums[interface][f"reply_{unit}"] == moved[back], (interface, unit)

        edges = flowobs.get("/api/v1/service-map?since=10m")["edges"]
        assert [(e["source"], e["destination"], e["port"]) for e in edges] == [
            ("lab/a-0", "lab/b-0", 8080)
        ]
        assert edges[0]["flows"] == 2 * CONNECTIONS
        assert edges[0]["packets"] == sums["va"]["packets"]
        assert edges[0]["reply_bytes"] == sums["va"]["reply_bytes"]
        assert {r["drop_reason"] for r in flowobs.rows(kind="lost")} <= OF_ANYBODY
