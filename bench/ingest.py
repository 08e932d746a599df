"""CPU per record on the way from an agent's batch into the store, against the engine's own write.

The reference, measured in the same run: the same rows from a Memory table into an equal MergeTree.
Engine threads count: the CPU of the whole process is taken. Usage: python -m bench.ingest
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from flowobs import schema, wire
from flowobs.batch import Endpoint, Endpoints, FlowBatch, Strings
from flowobs.wire import Decoder, Encoder
from relay.store import Store, ddl
from relay.store.native import to_native

ROWS = 10_000
GROUPS = 10
REPEATS = 3


def run() -> list[dict[str, Any]]:
    """CPU nanoseconds per record of each step; ``ratio`` is to the reference insert."""
    table, batches = _batches()
    total = ROWS * GROUPS
    costs: dict[str, float] = {}

    costs["encode"] = _cpu(lambda: [wire.encode(b, 1) for b in batches])
    encoded = [wire.encode(b, 1) for b in batches]
    decoder = Decoder(Endpoints(Strings()))
    for message in Encoder(table).pending():
        decoder.dictionary(message)
    costs["decode"] = _cpu(lambda: [decoder.batch(wire.parse(data)) for data in encoded])
    decoded = [decoder.batch(wire.parse(data)) for data in encoded]
    costs["native"] = _cpu(lambda: [to_native([b]) for b in decoded])
    blocks = [to_native([b]) for b in decoded]

    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"chdb://{folder}/store")
        try:
            costs |= _inserts(store, blocks, decoded)
        finally:
            store.close()

    references = {end: costs.pop(f"reference{end}") for end in ("", "_no_rollups")}
    path = costs["decode"] + costs["native"]
    costs["relay_path"] = path + costs["insert"]
    for end in references:
        costs[f"relay_path_5_groups{end}"] = path + costs[f"insert_5_groups{end}"]
    return [
        _figure(
            name, cost / total, references["_no_rollups" * name.endswith("_no_rollups")] / total
        )
        for name, cost in costs.items()
    ]


def _figure(name: str, cost: float, against: float) -> dict[str, Any]:
    return {
        "bench": "ingest",
        "metric": name,
        "value": round(cost * 1e9),
        "unit": "ns CPU per record",
        "against": f"INSERT SELECT from Memory: {against * 1e9:.0f} ns",
        "ratio": round(cost / against, 2),
    }


def _inserts(store: Store, blocks: list[list[bytes]], batches: list[FlowBatch]) -> dict[str, float]:
    writer = store._writer
    # Merges come when they come: they would be measured with one step or the other by chance.
    writer.command(f"SYSTEM STOP MERGES {ddl.TABLE}")
    tokens = iter(range(10**9))

    def insert(parts: list[list[bytes]]) -> None:
        for part in parts:
            store.insert_native(part, f"bench/{next(tokens)}")

    insert(blocks[:1])
    writer.command(f"CREATE TABLE memory AS {ddl.TABLE} ENGINE = Memory")
    half = [to_native(batches[i : i + 5]) for i in range(0, len(batches), 5)]
    for block in half:
        writer.raw_insert("memory", ddl.NAMES, b"".join(block), fmt="Native")
    select = f"INSERT INTO {ddl.TABLE} SELECT * FROM memory SETTINGS max_threads = 1"
    costs = {
        "insert": _cpu(lambda: insert(blocks)),
        "insert_5_groups": _cpu(lambda: insert(half)),
        "reference": _cpu(lambda: writer.command(select)),
    }
    for view in writer.query(
        "SELECT name FROM system.tables WHERE engine = 'MaterializedView'"
        " AND database = currentDatabase()"
    ).result_rows:
        writer.command(f"DROP VIEW {view[0]}")
    costs["insert_5_groups_no_rollups"] = _cpu(lambda: insert(half))
    costs["reference_no_rollups"] = _cpu(lambda: writer.command(select))
    return costs


def _batches() -> tuple[Endpoints, list[FlowBatch]]:
    """Records like those of a busy cluster: 1,000 pods, 3,000 Zipf-distributed edges."""
    rng = np.random.default_rng(1)
    table = Endpoints(Strings())
    pods = np.array(
        [
            table.id(
                Endpoint(
                    schema.EndpointKind.pod,
                    "prod",
                    f"ns-{i % 20}",
                    f"workload-{i % 200}-{i:08x}",
                    f"workload-{i % 200}",
                    "Deployment",
                    f"service-{i % 200}",
                    f"node-{i % 50}",
                )
            )
            for i in range(1000)
        ],
        "<u4",
    )
    addresses = np.zeros((1000, 16), "u1")
    addresses[:, 10:12] = 255
    addresses[:, 12:] = rng.integers(1, 255, (1000, 4))
    ends = rng.integers(0, 1000, (2, 3000))
    weights = 1 / np.arange(1, 3001) ** 0.8
    weights /= weights.sum()
    ports = rng.choice([80, 443, 8080, 5432, 6379, 53], 3000)
    node, interface = table.strings.id("node-1"), table.strings.id("eth0")
    start = time.time_ns()
    batches = []
    for group in range(GROUPS):
        edge = rng.choice(3000, ROWS, p=weights)
        source, destination = ends[0][edge], ends[1][edge]
        batch = FlowBatch.zeros(ROWS, table)
        batch.columns |= {
            "time": start + group * 10**9 + np.sort(rng.integers(0, 10**9, ROWS)),
            "kind": rng.choice([1, 2, 2, 2, 3], ROWS).astype("u1"),
            "verdict": np.ones(ROWS, "u1"),
            "reporter": np.ones(ROWS, "u1"),
            "proto": np.full(ROWS, 6, "u1"),
            "src_ip": addresses[source],
            "dst_ip": addresses[destination],
            "src_port": rng.integers(32768, 60999, ROWS).astype("<u2"),
            "dst_port": ports[edge].astype("<u2"),
            "interface": np.full(ROWS, interface, "<u4"),
            "node": np.full(ROWS, node, "<u4"),
            "packets": rng.geometric(0.1, ROWS).astype("<u8"),
            "bytes": rng.integers(60, 100_000, ROWS).astype("<u8"),
            "reply_packets": rng.geometric(0.1, ROWS).astype("<u8"),
            "reply_bytes": rng.integers(60, 100_000, ROWS).astype("<u8"),
            "tcp_flags": rng.choice([2, 16, 24], ROWS).astype("u1"),
            "duration": rng.integers(0, 10**9, ROWS).astype("<u8"),
            "src_cookie": rng.integers(0, 10**6, ROWS).astype("<u8"),
            "src_endpoint": pods[source],
            "dst_endpoint": pods[destination],
        }
        batches.append(batch)
    return table, batches


def _cpu(step: Callable[[], object]) -> float:
    """CPU seconds of this process for one ``step``: the least of several runs."""
    best = float("inf")
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_SELF)
        step()
        after = resource.getrusage(resource.RUSAGE_SELF)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


if __name__ == "__main__":
    for line in run():
        print(json.dumps(line))
