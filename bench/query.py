"""CPU of questions to a store of many records, over ten hours.

ROWS sets how many records (default 2,000,000). The engine's threads count: the CPU of the whole
process is taken, least of several runs, caches warm. Usage: ROWS=50000000 python -m bench query
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any

from bench.traffic import Traffic
from flowobs.filters import EVERYTHING, Filter
from relay.http.parameters import MapQuery
from relay.http.service_map import build
from relay.store import Reader, Store, ddl
from relay.store.plan import Plan, Slice

ROWS = int(os.environ.get("ROWS", "2000000"))
SPAN_NS = 10 * 3600 * 10**9
BATCH = 50_000
REPEATS = 4
GOALS_MS = {
    "last100_ms": 25, "last100_namespace_ms": 25, "last100_absent_ms": 400, "map_15m_ms": 100,
    "map_10h_ms": 250, "series_10h_ms": 100,
}  # fmt: skip
_LAST = f"SELECT {ddl.COLUMN_LIST} FROM flows WHERE {{}} ORDER BY time DESC LIMIT 100"
_SERIES = """SELECT bucket AS at, sum(bytes) AS bytes, sum(drops) AS drops FROM flows_1m
WHERE dst_workload = 'workload-7' AND reporter = 1 GROUP BY at ORDER BY at"""
"""One service by minute."""


def run() -> list[dict[str, Any]]:
    """CPU milliseconds of each question, and what the tables take on disk."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"chdb://{folder}/store")
        try:
            end = time.time_ns()
            insert = _fill(store, end - SPAN_NS)
            return [*_sizes(store, insert), *_questions(store, end)]
        finally:
            store.close()


def _fill(store: Store, begin: int) -> float:
    """Insert the records; CPU seconds per million."""
    traffic, cpu = Traffic(), 0.0
    batches = max(1, ROWS // BATCH)
    span = SPAN_NS // batches
    for i in range(batches):
        batch = traffic.batch(BATCH, begin + i * span, span)
        before = _cpu()
        store.insert([batch], f"bench/{i}")
        cpu += _cpu() - before
    return cpu / (batches * BATCH) * 1e6


def _sizes(store: Store, insert: float) -> list[dict[str, Any]]:
    parts = store.reader().query(
        "SELECT table, sum(rows) AS n, sum(bytes_on_disk) AS b FROM system.parts"
        " WHERE active AND database = currentDatabase() GROUP BY table ORDER BY table"
    )
    sizes = list(zip(parts["table"], parts["n"], parts["b"], strict=True))
    rows = next(n for table, n, _ in sizes if table == "flows")
    figures = [
        _figure("insert_cpu_s_per_mrow", insert, "s CPU", f"rollups included, {rows:,} rows")
    ]
    return figures + [
        _figure(f"{table}_bytes_per_row", size / rows, "bytes", f"per record; {n:,} rows")
        for table, n, size in sizes
    ]


class _Session:
    """A request's queries, without HTTP."""

    def __init__(self, reader: Reader, plan: Callable[[int, int], Plan]) -> None:
        self.query = reader.query
        self.plan = plan


def _questions(store: Store, end: int) -> list[dict[str, Any]]:
    reader = store.reader(max_seconds=120)
    maps = _Session(reader, store.plan)
    records = _Session(reader, lambda a, b: Plan((Slice("flows", a, b),)))

    def last(condition: str) -> Callable[[], object]:
        return lambda: reader.query(_LAST.format(condition))

    def map(session: _Session, seconds: int, filter: Filter = EVERYTHING) -> Callable[[], object]:
        query = MapQuery(filter, end - seconds * 10**9, end)
        return lambda: build(session, query)  # type: ignore[arg-type]

    questions = {
        "last100_ms": last("1"),
        "last100_namespace_ms": last("src_namespace = 'ns-3' OR dst_namespace = 'ns-3'"),
        "last100_absent_ms": last("src_name = 'absent' OR dst_name = 'absent'"),
        "map_15m_ms": map(maps, 900),
        "map_15m_records_ms": map(records, 900),
        "map_10h_ms": map(maps, 36_000),
        "map_10h_records_ms": map(records, 36_000),
        "series_10h_ms": lambda: reader.query(_SERIES),
    }
    figures = []
    for name, question in questions.items():
        best = min(_cost(question) for _ in range(REPEATS))
        goal = GOALS_MS.get(name)
        figures.append(
            _figure(name, best * 1000, "ms CPU", f"at most {goal} at 50 M rows" if goal else "")
            | {"ratio": goal and round(best * 1000 / goal, 2)}
        )
    return figures


def _figure(metric: str, value: float, unit: str, against: str) -> dict[str, Any]:
    return {
        "bench": "query", "metric": metric, "value": round(value, 2), "unit": unit,
        "against": against, "ratio": None,
    }  # fmt: skip


def _cost(question: Callable[[], object]) -> float:
    before = _cpu()
    question()
    return _cpu() - before


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
