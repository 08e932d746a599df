"""CPU of a record's way from an agent's batch into the store, against the engine's own write.

The reference: the same rows from a Memory table into the same one, 50,000 at a time, measured in
turns with ours. Engine threads count: the CPU of the whole process is taken; merges wait, since
they would be measured with one or the other by chance. Usage: python -m bench.ingest
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flowobs import schema, wire
from flowobs.batch import Endpoint, Endpoints, FlowBatch, Strings
from flowobs.wire import Decoder, Encoder
from relay.store import Store, ddl
from relay.store.native import to_native

ROWS = 10_000
GROUPS = 5
"""Of an insert, as the committer combines them."""
REPEATS = 5
SMALL = 200
"""Rows of an insert of a lone, quiet agent's records: what it costs is mostly fixed."""
_TOTAL = ROWS * GROUPS


def run() -> list[dict[str, Any]]:
    """CPU of the relay's steps, of all of them, and of the reference; bytes on disk."""
    table, batches = _batches()
    encoded = [wire.encode(b, 1) for b in batches]
    decoder = Decoder(Endpoints(Strings()))
    for message in Encoder(table).pending():
        decoder.dictionary(message)
    decoded = [decoder.batch(wire.parse(data)) for data in encoded]
    steps = {
        "encode": lambda: [wire.encode(b, 1) for b in batches],
        "decode": lambda: [decoder.batch(wire.parse(data)) for data in encoded],
        "native": lambda: to_native(decoded),
    }
    costs = {name: min(_cpu(step) for _ in range(REPEATS)) / _TOTAL for name, step in steps.items()}
    figures = [
        _figure(f"{name}_ns", cost * 1e9, "ns CPU per record") for name, cost in costs.items()
    ]
    path = costs["decode"] + costs["native"]
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"chdb://{folder}/store")
        try:
            inserts = _Inserts(store, decoded, Path(folder) / "block")
            size = inserts.bytes_per_row()
            with_rollups = inserts.costs()
            small = inserts.small(decoded[0].select(slice(SMALL)))
            inserts.drop_views()
            without = inserts.costs()
        finally:
            store.close()
    for end, (insert, limit) in {"": with_rollups, "_no_rollups": without}.items():
        ours = path + insert
        figures += [
            _figure(f"insert_cpu_s_per_mrow{end}", insert * 1e6, "s CPU"),
            _figure(f"ingest_cpu_s_per_mrow{end}", ours * 1e6, "s CPU", "decode, native, insert"),
            _figure(f"limit_cpu_s_per_mrow{end}", limit * 1e6, "s CPU", "INSERT SELECT"),
            _figure(f"rows_per_cpu_s{end}", 1 / ours, "records"),
            _figure(f"ingest_ratio{end}", ours / limit, "", "at most 2 times the limit")
            | {"ratio": round(ours / limit, 2)},
        ]
    figures.append(_figure(f"insert_{SMALL}_ms", small * 1e3, "ms CPU", f"{SMALL} records"))
    return [*figures, _figure("bytes_per_row", size, "bytes", "flows on disk, merged; at most 60")]


def _figure(metric: str, value: float, unit: str, against: str = "") -> dict[str, Any]:
    return {
        "bench": "ingest", "metric": metric, "value": round(value, 2), "unit": unit,
        "against": against, "ratio": None,
    }  # fmt: skip


class _Inserts:
    """One insert, as the committer does it, and the reference."""

    def __init__(self, store: Store, batches: list[FlowBatch], file: Path) -> None:
        self._store, self._file, self._writer = store, file, store._writer
        self._tokens = iter(range(10**9))
        file.write_bytes(b"".join(to_native(batches)))
        self._writer.command(f"CREATE TABLE memory AS {ddl.TABLE} ENGINE = Memory")
        self._writer.command(f"INSERT INTO memory FROM INFILE '{file}' FORMAT Native")

    def _insert(self, file: Path | None = None) -> None:
        self._store.insert_file(file or self._file, f"bench/{next(self._tokens)}")

    def _reference(self) -> None:
        self._writer.command(
            f"INSERT INTO {ddl.TABLE} SELECT * FROM memory SETTINGS max_threads = 1,"
            f" insert_deduplication_token = 'bench/{next(self._tokens)}'"
        )

    def costs(self) -> tuple[float, float]:
        """CPU seconds per record of an insert and of the reference."""
        self._writer.command(f"SYSTEM STOP MERGES {ddl.TABLE}")
        pairs = [(_cpu(self._insert), _cpu(self._reference)) for _ in range(REPEATS)]
        ours, reference = (min(costs) / _TOTAL for costs in zip(*pairs, strict=True))
        return ours, reference

    def small(self, batch: FlowBatch) -> float:
        """CPU seconds of an insert of a few records."""
        file = self._file.with_suffix(".small")
        file.write_bytes(b"".join(to_native([batch])))
        return min(_cpu(lambda: self._insert(file)) for _ in range(4 * REPEATS))

    def drop_views(self) -> None:
        for view in self._writer.query(
            "SELECT name FROM system.tables WHERE engine = 'MaterializedView'"
            " AND database = currentDatabase()"
        ).result_rows:
            self._writer.command(f"DROP VIEW {view[0]}")

    def bytes_per_row(self) -> float:
        """Of records on disk, once they are merged."""
        self._insert()
        self._writer.command(f"OPTIMIZE TABLE {ddl.TABLE} FINAL")
        found = self._writer.query(
            "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts"
            f" WHERE active AND table = '{ddl.TABLE}' AND database = currentDatabase()"
        )
        return float(found.result_rows[0][0])


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
    """CPU seconds of this process for one ``step``."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    for line in run():
        print(json.dumps(line))
