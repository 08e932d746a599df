"""Latencies of all traffic: what is asked of few columns is what all of the traffic tells."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

from flowobs.batch import FlowBatch
from flowobs.filters import EVERYTHING
from flowobs.query import parse
from flowobs.schema import Kind
from relay.http import rolled
from relay.http.measured import measured
from relay.http.traffic import traffic
from relay.http.trends import value
from relay.store import Store, StoreError, paths
from relay.store.paths import Paths
from relay.store.plan import Plan, Slice
from tests.relay.flows import flows, table
from tests.relay.test_measured import HOUR, MINUTE, PODS, POINTS, Session

LENGTH = 3 * HOUR
LATENCIES = ("connect_ms", "rtt_p95_ms")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(f"chdb://{tmp_path_factory.mktemp('quantiles')}/store", retention="flows=9d")
    yield store
    store.close()


@pytest.fixture(scope="module")
def begin(store: Store) -> int:
    """Three hours of channels whose points each see some of the traffic, and are away for some of
    the time; whose latencies no two points agree on; and of which some belong to another pod
    later."""
    begin = (time.time_ns() // HOUR - 30) * HOUR
    rng, endpoints, rows = np.random.default_rng(7), table(), 200
    batches = []
    for channel, point, late in product(range(16), POINTS, (False, True)):
        batch = flows(
            rows, endpoints, src=PODS[(channel + late * (channel % 2)) % 5], dst=PODS[channel % 3],
            src_ip=f"10.0.0.{channel}", dst_ip=f"10.0.1.{channel % 4}", dst_port=80 + channel % 5,
            kind=rng.choice([Kind.open, Kind.update, Kind.drop], rows, p=[0.2, 0.7, 0.1]),
            packets=rng.integers(1, rng.integers(200, 1000), rows),
            tcp_flags=rng.choice([0, 2], rows), connect_ns=rng.integers(0, 10**8, rows),
            src_srtt_us=rng.integers(0, 2, rows) * rng.integers(1, 10**6, rows), **point,
        )  # fmt: skip
        batch.columns["time"][:] = begin + late * LENGTH // 2 + rng.integers(0, LENGTH // 2, rows)
        away = begin + rng.integers(0, LENGTH)
        seconds = batch.columns["time"] // 10**9 * 10**9
        there = (seconds < away) | (seconds > away + rng.integers(0, HOUR))
        batches.append(batch.select(there) if not there.all() else batch)
    store.insert([FlowBatch.concat(batches)], "records")
    return begin


def _slices(store: Store, begin: int, step_s: int) -> Plan:
    """Of each table; a step may be of two."""
    edges = [begin + at * MINUTE for at in (0, 5, 60, 120, 175, 180)]
    tables = ("flows", "flows_1m", "flows_1h", "flows_1m", "flows")
    return Plan(tuple(map(Slice, tables, edges, edges[1:])))


def _minutes(store: Store, begin: int, step_s: int) -> Plan:
    return store.plan(begin, begin + LENGTH, step_s * 10**9)


def agree(
    session: Any, question: str, begin: int, step_s: int, measures: Sequence[str], least: int
) -> None:
    """Asserts that ``measured`` tells of ``least`` steps or more, and what ``traffic`` does."""
    when = parse(question), begin, begin + LENGTH
    rows = traffic(session, *when, by=("at",), step_s=step_s).rows
    for measure in measures:
        expected = {key: number for key in rows if (number := value(rows[key], measure, 1))}
        assert len(expected) >= least
        assert measured(session, *when, measure, step_s=step_s).values == expected


@pytest.mark.parametrize("plan", [_minutes, _slices])
@pytest.mark.parametrize(
    ("step_s", "question"), [(60, ""), (180, "port:83"), (900, "from.pod:shop/pod-1"), (1800, "")]
)
def test_a_latency_is_what_all_of_the_traffic_tells(
    store: Store, begin: int, step_s: int, question: str, plan: Any
) -> None:
    session: Any = Session(store.reader(), plan(store, begin, step_s))
    agree(session, question, begin, step_s, LATENCIES, least=4)


@pytest.mark.parametrize(("step_s", "question"), [(0, ""), (900, "from.pod:shop/pod-1")])
def test_histograms_that_the_engine_adds_up_tell_the_same(
    store: Store, begin: int, step_s: int, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a month there are more than fit into memory."""
    session: Any = Session(store.reader(), _slices(store, begin, step_s or 60))
    when = parse(question), begin, begin + LENGTH

    def told() -> list[object]:
        by = ("edge", "at") if step_s else ("edge",)
        rows = traffic(session, *when, by=by, step_s=step_s).rows
        return [rows, *(measured(session, *when, m, step_s=step_s).values for m in LATENCIES)]

    expected = told()
    monkeypatch.setattr(paths, "_SUMMED", 0)
    assert told() == expected
    assert any(row["rtt_p99_ms"] for row in expected[0].values())


@pytest.mark.parametrize("plan", [_minutes, _slices])
@pytest.mark.parametrize(("step_s", "question"), [(60, ""), (180, "port:83"), (900, "pod:shop/*")])
def test_a_counter_is_what_all_of_the_traffic_tells(
    store: Store, begin: int, step_s: int, question: str, plan: Any
) -> None:
    session: Any = Session(store.reader(), plan(store, begin, step_s))
    agree(session, question, begin, step_s, ("opens", "packets", "drops"), least=4)


def test_a_chart_adds_up_to_the_map(store: Store) -> None:
    """Where an agent was away for a unit of five minutes, and parts of those beside it."""
    begin = (time.time_ns() // HOUR - 60) * HOUR
    endpoints, batches = table(), []
    for minute, point in product(range(30), (POINTS[0], POINTS[2])):
        if minute not in range(8, 17) or point is POINTS[2]:
            start = begin + minute * MINUTE
            batches.append(flows(1, endpoints, packets=10, start_ns=start, **point))
    store.insert([FlowBatch.concat(batches)], "away")
    when = EVERYTHING, begin, begin + 30 * MINUTE
    session: Any = Session(store.reader(), store.plan(*when[1:], MINUTE))
    (edge,) = traffic(session, *when).rows.values()
    both = edge["packets"] + edge["reply_packets"]
    assert both == 30 * 11
    for step_s in (60, 300, 900):
        assert sum(measured(session, *when, "packets", step_s=step_s).values.values()) == both
    assert measured(session, *when, "packets").values == {(): both}


@pytest.mark.parametrize(("step_s", "question"), [(10, ""), (300, "from.pod:shop/pod-1")])
def test_a_latency_of_records_is_what_all_of_the_traffic_tells(
    store: Store, begin: int, step_s: int, question: str
) -> None:
    session: Any = Session(store.reader(), Plan((Slice("flows", begin, begin + LENGTH),)))
    agree(session, question, begin, step_s, LATENCIES, least=30)


@pytest.mark.parametrize("step_s", [60, 900, 1800])  # the last is two units
def test_steps_within_units_choose_what_units_do(
    store: Store, begin: int, step_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session: Any = Session(store.reader(), _slices(store, begin, step_s))
    when = EVERYTHING, begin, begin + LENGTH

    def rows() -> Any:
        return traffic(session, *when, group="pod", by=("source", "at"), step_s=step_s).rows

    found = rows()
    monkeypatch.setattr(Paths, "by_unit", False)
    assert found == rows()


def test_few_columns_are_asked_for_once(
    store: Store, begin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session: Any = Session(store.reader(), _minutes(store, begin, 60))
    asked: list[str] = []
    arrays = session.arrays
    session.arrays = lambda sql, parameters: (asked.append(sql), arrays(sql, parameters))[1]

    def points() -> dict[Any, float]:
        when = begin, begin + LENGTH
        return measured(session, EVERYTHING, *when, "rtt_p95_ms", step_s=60).values

    one = points()
    assert one and len(asked) == 1 and "connect" not in asked[0]
    monkeypatch.setattr("relay.store.paths._FEW", 0)
    assert points() == one
    assert len(asked) > 5
    monkeypatch.setattr(rolled, "MOST", 100)
    with pytest.raises(StoreError, match="paths match: ask about a shorter time"):
        points()
