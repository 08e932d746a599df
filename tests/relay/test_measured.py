"""One measure: the engine's choice of what counts is the one that records lead to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from flowobs.batch import Endpoint, FlowBatch
from flowobs.filters import EVERYTHING
from flowobs.measures import COUNTS
from flowobs.query import parse
from flowobs.schema import EndpointKind, Kind, Reporter
from relay.http import sums
from relay.http.measured import measured
from relay.http.traffic import traffic
from relay.http.trends import value
from relay.store import Reader, Store, StoreError
from relay.store.ends import Ends
from relay.store.paths import Paths
from relay.store.plan import Plan, Slice
from tests.relay.flows import flows, table

MINUTE, HOUR = 60 * 10**9, 3600 * 10**9
PODS = [
    Endpoint(EndpointKind.pod, "", "shop", f"pod-{i}", f"w-{i % 3}", "Deployment", labels="app=x")
    for i in range(5)
]
POINTS = [
    {"reporter": Reporter.source, "interface": "veth1"},
    {"reporter": Reporter.source, "interface": "eth0"},
    {"reporter": Reporter.destination, "interface": "veth2"},
    {"reporter": Reporter.transit, "interface": "br0"},
]
KINDS = (Kind.open, Kind.update, Kind.drop, Kind.retransmit, Kind.reset, Kind.fail)


class Session:
    """A store's answers by one plan."""

    def __init__(self, reader: Reader, plan: Plan) -> None:
        self.query, self.arrays, self.ends = reader.query, reader.arrays, Ends()
        self.plan = lambda *_: plan


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(f"chdb://{tmp_path_factory.mktemp('measured')}/store", retention="flows=9d")
    yield store
    store.close()


@pytest.fixture(scope="module")
def begin(store: Store) -> int:
    """Three hours of seven channels, each seen at other points."""
    begin = (time.time_ns() // HOUR - 30) * HOUR
    rng, endpoints = np.random.default_rng(3), table()
    batches = []
    ends = [(0, 1), (0, 2), (1, 1), (3, 0), (4, 2), (2, 4), (1, 3)]
    for (i, (source, destination)), kind in product(enumerate(ends), KINDS):
        if kind == Kind.retransmit and i % 2:
            continue  # either told as an event or counted: the larger of both is of a unit
        points = POINTS[i % 4 :]
        for minute in rng.integers(0, 180, 3).tolist():
            for n, point in enumerate(points):
                traffic = kind in (Kind.open, Kind.update)
                counts = {
                    name: (9 - n) * (i + 1) if traffic else 0
                    for name in ("packets", "bytes", "reply_packets", "reply_bytes")
                }
                counts["retransmits"] = counts["packets"] * (i % 2)
                batches.append(
                    flows(
                        2, endpoints, src=PODS[source], dst=PODS[destination],
                        src_ip=f"10.0.0.{source}", dst_ip=f"10.0.0.{destination}",
                        dst_port=80 + i, start_ns=begin + minute * MINUTE + n, kind=kind,
                        lost=0 if traffic else n, **counts, **point,
                    )
                )  # fmt: skip
    store.insert([FlowBatch.concat(batches)], "records")
    return begin


@pytest.mark.parametrize(
    ("measure", "by", "group", "question", "step_s"),
    [
        ("bytes", "edge", "pod", "", 60),
        ("drops", "end", "workload", "", 1800),
        ("resets", "source", "workload", "to.pod:shop/pod-1", 3600),
        ("resets", "destination", "pod", "", 3600),
        ("retransmits", "edge", "label:app", "", 1800),
        ("packets", "", "pod", "pod:shop/pod-1", 60),
    ],
)
def test_a_measure_of_rollups_is_that_of_records(
    store: Store, begin: int, measure: str, by: str, group: str, question: str, step_s: int
) -> None:
    plan = store.plan(begin, begin + 3 * HOUR, step_s * 10**9)
    assert plan.table != "flows"
    records = Plan((Slice("flows", plan.from_ns, plan.to_ns),))
    of, reader = (by,) if by else (), store.reader()

    def ask(**more: Any) -> list[dict[Any, float]]:
        return [
            measured(
                Session(reader, p), parse(question), begin, begin + 3 * HOUR, measure,  # type: ignore[arg-type]
                group=group, by=of, **more,
            ).values
            for p in (plan, records)
        ]  # fmt: skip

    most, expected = ask(most=3 if by else 0)
    assert most == expected and list(most) == list(expected) and most
    only = [key[0] for key in most] if by else []
    points, expected = ask(step_s=step_s, only=only)
    assert len(points) >= 3 and {key[0] for key in points} >= set(only)
    assert {_key(k, only): v for k, v in points.items()} == {
        _key(k, only): v for k, v in expected.items()
    }


@pytest.mark.parametrize("measure", COUNTS)
@pytest.mark.parametrize(("step_s", "question"), [(10, ""), (900, "pod:shop/pod-1")])
def test_a_measure_of_records_in_steps_is_that_of_all_traffic(
    store: Store, begin: int, measure: str, step_s: int, question: str
) -> None:
    plan = Plan(
        (Slice("flows", begin - 7, begin + HOUR), Slice("flows", begin + HOUR, begin + 3 * HOUR))
    )
    session: Any = Session(store.reader(), plan)
    when = parse(question), begin - 7, begin + 3 * HOUR
    rows = traffic(session, *when, by=("at",), step_s=step_s, latency=False).rows
    expected = {key: value(row, measure, 1) for key, row in rows.items()}
    assert measured(session, *when, measure, step_s=step_s).values == {
        key: number for key, number in expected.items() if number
    }
    assert any(expected.values())


def _key(key: tuple[Any, ...], only: list[Any]) -> tuple[Any, ...]:
    return key if not only or key[0] in only else ("other", *key[1:])


def noted(session: Session, way: str) -> list[str]:
    """What is asked from now on by ``query`` or ``arrays``."""
    asked: list[str] = []
    ask = getattr(session, way)

    def note(sql: str, parameters: dict[str, Any]) -> Any:
        asked.append(sql)
        return ask(sql, parameters)

    setattr(session, way, note)
    return asked


@pytest.mark.parametrize("question", ["", "proto:tcp"])
def test_many_rows_are_asked_for_in_several_questions(
    store: Store, begin: int, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(store.reader(), store.plan(begin, begin + 3 * HOUR, MINUTE))
    asked = noted(session, "arrays")

    def points() -> dict[Any, float]:
        when = begin, begin + 3 * HOUR
        return measured(session, parse(question), *when, "bytes", step_s=60).values  # type: ignore[arg-type]

    one = points()
    assert len(asked) == 1
    monkeypatch.setattr(sums, "_GROUPS", 50)
    assert points() == one
    assert len(asked) > 6
    monkeypatch.setattr(sums, "_MOST_ROWS", 100)
    with pytest.raises(StoreError, match="rows match: ask about a shorter time"):
        points()


def test_more_points_than_fit_are_asked_for_by_channel(
    store: Store, begin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(store.reader(), store.plan(begin, begin + 3 * HOUR))
    asked = noted(session, "arrays")

    def edges() -> dict[Any, float]:
        when = begin, begin + 3 * HOUR
        return measured(session, EVERYTHING, *when, "packets", by=("edge",)).values  # type: ignore[arg-type]

    one = edges()
    assert len(one) == 7 and len(asked) == 1
    monkeypatch.setattr(sums, "MOST", 40)
    assert edges() == one
    assert len(asked) == 2 + sums._SHARES
    monkeypatch.setattr(sums, "MOST", 1)
    with pytest.raises(StoreError, match="paths match: ask about a shorter time"):
        edges()


def test_a_time_is_cut_into_as_many_questions() -> None:
    now = 10 * HOUR + 90 * MINUTE + 1
    plan = Plan((Slice("flows", MINUTE // 2, MINUTE), Slice("flows_1m", MINUTE, 12 * HOUR)), now)
    paths = Paths(plan, EVERYTHING, 60)
    assert paths.steps == 691
    for questions in (1, 2, 3, 7):
        found = paths.cut(questions)
        assert len(found) == questions and len(found[0]) == 2
        edges = [part for parts in found for part in parts]
        assert [part.from_ns for part in edges[1:]] == [part.to_ns for part in edges[:-1]]
        assert (edges[0].from_ns, edges[-1].to_ns) == (MINUTE // 2, 12 * HOUR)
        assert all(part.from_ns % MINUTE == 0 for part in edges[1:])
        assert all(parts[0].from_ns < now for parts in found)


def test_many_steps_of_few_paths_are_one_question(
    store: Store, begin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(store.reader(), store.plan(begin, begin + 3 * HOUR, MINUTE))
    asked = noted(session, "arrays")

    def points() -> dict[Any, float]:
        when = begin, begin + 3 * HOUR
        return measured(session, EVERYTHING, *when, "flows", step_s=60).values  # type: ignore[arg-type]

    one = points()
    assert one and 1 <= len(asked) <= 2  # again where an agent was away
    few = len(asked)
    monkeypatch.setattr("relay.store.paths._FEW", 0)
    assert points() == one
    assert len(asked) - few > 4


def test_a_question_lists_thousands_of_channels_of_each_slice(store: Store, begin: int) -> None:
    plan = Plan(
        (
            Slice("flows", begin, begin + MINUTE),
            Slice("flows_1m", begin + MINUTE, begin + HOUR),
            Slice("flows_1h", begin + HOUR, begin + 2 * HOUR),
            Slice("flows_1m", begin + 2 * HOUR, begin + 3 * HOUR - MINUTE),
            Slice("flows", begin + 3 * HOUR - MINUTE, begin + 3 * HOUR),
        )
    )
    channels = np.arange(5_000, dtype="<u8") + np.uint64(2**63)
    (sql,) = Paths(plan, EVERYTHING).latencies_sql(channels, len(channels))
    assert len(sql) > 2**19
    found = store.reader().arrays(sql)
    assert len(found["path"])
