"""CPU of questions to a store of many records, over ten hours.

ROWS sets how many records (default 50,000,000, which takes some minutes and 4 GB of disk). The
engine's threads count: the CPU of the whole process is taken, least of several runs, caches warm.
Usage: ROWS=2000000 python -m bench query
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
from flowobs.query import parse
from flowobs.query.place import place
from relay.http import diff, timeseries, top
from relay.http.diff import DiffQuery
from relay.http.hints import values
from relay.http.parameters import HintsQuery, MapQuery
from relay.http.service_map import build
from relay.http.timeseries import SeriesQuery
from relay.http.top import TopQuery
from relay.http.trends import Asked
from relay.store import Reader, Store, ddl
from relay.store.ends import Ends
from relay.store.plan import Plan, Slice, plan
from relay.store.rollup import MINUTES, TABLES

ROWS = int(os.environ.get("ROWS", "50000000"))
SPAN_NS = 10 * 3600 * 10**9
BATCH = 50_000
REPEATS = 4
SETTLE_S = 120
GOALS_MS = {
    "last100_ms": 25, "last100_namespace_ms": 25, "last100_absent_ms": 400, "map_15m_ms": 100,
    "map_10h_ms": 250, "map_10h_quantiles_ms": 500, "series_10h_ms": 100, "hints_ms": 50,
}  # fmt: skip
_LAST = f"SELECT {ddl.COLUMN_LIST} FROM flows WHERE {{}} ORDER BY time DESC LIMIT 100"


def run() -> list[dict[str, Any]]:
    """CPU milliseconds of each question, and what the tables take on disk."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"chdb://{folder}/store")
        try:
            begin = time.time_ns() - SPAN_NS
            insert = _fill(store, begin)
            _settle(store)
            return [*_sizes(store, insert), *_questions(store, begin + SPAN_NS)]
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


def _settle(store: Store) -> None:
    """Wait until the engine merges nothing: its CPU would be counted as the questions'."""
    quiet, end = 0, time.monotonic() + SETTLE_S
    while quiet < 10 and time.monotonic() < end:
        (merges,) = store.reader().query("SELECT count() AS n FROM system.merges")["n"]
        quiet = 0 if merges else quiet + 1
        time.sleep(0.2)


def _sizes(store: Store, insert: float) -> list[dict[str, Any]]:
    parts = store.reader().query(
        "SELECT table, sum(rows) AS n, sum(bytes_on_disk) AS b FROM system.parts"
        " WHERE active AND database = currentDatabase() AND table IN {tables:Array(String)}"
        " GROUP BY table ORDER BY table",
        {"tables": list(TABLES)},
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

    def __init__(self, reader: Reader, plan: Callable[..., Plan]) -> None:
        self.query, self.arrays = reader.query, reader.arrays
        self.plan, self.ends = plan, Ends()


def _questions(store: Store, end: int) -> list[dict[str, Any]]:
    reader = store.reader(max_seconds=120)

    def plan_at_end(from_ns: int, to_ns: int, step_ns: int | None = None) -> Plan:
        # as if it were now: filling the store may have taken minutes
        complete = store._sweeper.complete()
        return plan(from_ns, to_ns, complete, step_ns=step_ns, now_ns=end)

    rollups: Any = _Session(reader, plan_at_end)
    records: Any = _Session(reader, lambda a, b: Plan((Slice("flows", a, b),)))
    past = end - 17 * 60 * 10**9 - 1

    def last(condition: str) -> Callable[[], object]:
        return lambda: reader.query(_LAST.format(condition))

    def map(
        seconds: int,
        *,
        session: Any = rollups,
        until: int = end,
        group: str = "pod",
        filter: Filter = EVERYTHING,
        latency: bool = False,
        exact: bool = False,
    ) -> Callable[[], object]:
        since = until - seconds * 10**9
        if not exact:  # as `since=15m` does
            since -= since % MINUTES.ns
        query = MapQuery(filter, since, until, group, latency)
        return lambda: build(session, query)

    def asked(seconds: int, limit: int = 10, filter: Filter = EVERYTHING) -> Asked:
        since = end - seconds * 10**9
        return Asked(filter, since - since % MINUTES.ns, end, "workload", limit)

    def series(asked: Asked, by: str, step_s: int | None = None) -> Callable[[], object]:
        return lambda: timeseries.build(rollups, SeriesQuery(asked, by, step_s=step_s))

    service = parse("to.workload:workload-7")
    typed = "ns:ns-3 and pod:workl"
    hints = HintsQuery(typed, len(typed) + 1, end - 300 * 10**9, end)
    questions = {
        "last100_ms": last("1"),
        "last100_namespace_ms": last("src_namespace = 'ns-3' OR dst_namespace = 'ns-3'"),
        "last100_absent_ms": last("src_name = 'absent' OR dst_name = 'absent'"),
        "map_15m_ms": map(900),
        "map_15m_exact_ms": map(900, exact=True),
        "map_15m_quantiles_ms": map(900, latency=True),
        "map_15m_records_ms": map(900, session=records),
        "map_5m_quantiles_ms": map(300, latency=True),
        "map_10h_ms": map(36_000),
        "map_10h_quantiles_ms": map(36_000, latency=True),
        "map_10h_workload_ms": map(36_000, group="workload"),
        "map_10h_namespace_ms": map(36_000, filter=parse("ns:ns-3")),
        "map_10h_past_ms": map(36_000 - 17 * 60, until=past, exact=True),
        "series_10h_ms": series(asked(36_000, filter=service), "total", 60),
        "series_10h_largest_ms": series(asked(36_000, 5), "source"),
        "top_10h_ms": lambda: top.build(rollups, TopQuery(asked(36_000), "edge", "bytes")),
        "top_15m_end_ms": lambda: top.build(rollups, TopQuery(asked(900), "end", "drops")),
        "top_15m_new_ms": lambda: top.build(rollups, TopQuery(asked(900), new=True)),
        "diff_1h_ms": lambda: diff.build(rollups, DiffQuery(asked(3600), 3600 * 10**9)),
        "hints_ms": lambda: values(rollups, place(typed, hints.at), hints),
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
