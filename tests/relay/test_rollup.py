"""The map from rollups is the map from records."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flowobs.batch import Endpoint, FlowBatch
from flowobs.filters import EVERYTHING, from_parameters
from flowobs.schema import EndpointKind, Kind, Reporter
from relay.http.parameters import MapQuery
from relay.http.service_map import build
from relay.http.traffic import traffic
from relay.http.traffic_sql import OTHER
from relay.store import Reader, Store
from relay.store.ends import Ends
from relay.store.plan import Plan, Slice
from tests.relay.flows import flows, table

HOUR, MINUTE = 3600 * 10**9, 60 * 10**9


class Maps:
    """A store, and its maps from records and from rollups."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[FlowBatch] = []
        self.reader: Reader = store.reader()
        self.endpoints = table()
        self.begin = (time.time_ns() // HOUR - 1000 * 24) * HOUR
        self.inserts = 0
        self.ends = Ends()

    def next(self) -> None:
        self.begin += 5 * HOUR
        assert self.begin + 5 * HOUR < time.time_ns(), "rollups of what is going on are others"

    def add(self, batch: FlowBatch) -> None:
        self._waiting.append(batch)

    @property
    def store(self) -> Store:
        """It has what was added, by three inserts: rollups have parts to merge."""
        for part in (self._waiting[n::3] for n in range(3)):
            if part:
                self.inserts += 1
                self._store.insert(part, f"insert-{self.inserts}")
        self._waiting = []
        return self._store

    def session(self, plan: Plan) -> Any:
        class Session:
            query = self.reader.query
            arrays = self.reader.arrays
            ends = self.ends

            def plan(self, from_ns: int, to_ns: int, step_ns: int = 0) -> Plan:
                return plan

        return Session()

    def get(self, plan: Plan, namespace: str = "", group: str = "pod") -> dict[str, Any]:
        filter = from_parameters({"namespace": [namespace]}) if namespace else EVERYTHING
        query = MapQuery(filter, plan.from_ns, plan.to_ns, group)
        answer: dict[str, Any] = json.loads(build(self.session(plan), query))
        answer["edges"].sort(key=lambda e: (e["source"], e["destination"], e["proto"], e["port"]))
        answer["nodes"].sort(key=lambda n: n["id"])
        if group not in ("pod", "address"):  # any of its ends tells what a node is
            answer["nodes"] = [(n["id"], n["addresses"]) for n in answer["nodes"]]
        return answer

    def both(
        self, from_ns: int, to_ns: int, namespace: str = "", group: str = "pod"
    ) -> list[dict[str, Any]]:
        plan = self.store.plan(from_ns, to_ns)
        assert plan.table == "flows_1h"
        records = Plan((Slice("flows", from_ns, to_ns),))
        answers = [self.get(p, namespace, group) for p in (records, plan)]
        assert [answer.pop("table") for answer in answers] == ["flows", "flows_1h"]
        return answers


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maps]:
    url = f"chdb://{tmp_path_factory.mktemp('rollup') / 'store'}"
    store = Store.open(url, retention="flows=1100d,1m=1100d,1h=1100d")
    yield Maps(store)
    store.close()


@pytest.fixture
def maps(whole: Maps) -> Maps:
    whole.next()
    return whole


POINTS = (
    {"reporter": Reporter.source, "node": "n1", "interface": "veth0"},
    {"reporter": Reporter.source, "node": "n1", "interface": "eth0"},
    {"reporter": Reporter.destination, "node": "n2", "interface": "veth1"},
    {"reporter": Reporter.transit, "node": "n3", "interface": "eth0"},
)
ENDS = [
    (
        Endpoint(
            EndpointKind.pod, "", f"ns-{i % 2}", f"pod-{i}", f"w-{i % 3}", labels=f"app=a{i % 3}"
        ),
        f"10.0.0.{i}",
    )
    for i in range(1, 5)
] + [(Endpoint(), "224.0.0.251"), (Endpoint(), "192.0.2.1")]
KINDS = (
    Kind.open, Kind.update, Kind.update, Kind.close, Kind.drop, Kind.retransmit, Kind.reset,
    Kind.fail, Kind.lost,
)  # fmt: skip


# ns; never between two places that tell of the same packet: records and rollups differ in whose
# word they take for a flow that is cut there
MARGIN = st.just(0) | st.integers(0, 3599).map(lambda s: s * 10**9 + 5 * 10**8)


@st.composite
def channels(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Channels with other ends each, where they were seen, and what their flows did when."""
    pairs = draw(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=4))
    return [
        {
            "ends": pair,
            "dst_port": draw(st.sampled_from((53, 443))),
            "proto": draw(st.sampled_from((6, 17, 1))),
            "points": sorted(draw(st.sets(st.integers(0, 3), min_size=1))),
            "records": draw(
                st.lists(
                    st.tuples(
                        st.integers(0, 4 * 3600),  # when
                        st.sampled_from(KINDS),
                        st.integers(0, 3),  # which flow
                        st.integers(0, 50),  # packets
                    ),
                    min_size=1,
                    max_size=25,
                )
            ),
        }
        for pair in pairs
    ]


def records(maps: Maps, channel: dict[str, Any]) -> list[FlowBatch]:
    """Each record as every point of the channel tells of it, after the flow's opening."""
    out = []
    source, destination = (ENDS[i] for i in channel["ends"])
    told = sorted(channel["records"], key=lambda record: record[0])
    began: dict[int, int] = {}
    for at, kind, flow, packets in told:
        if kind != Kind.lost and (flow not in began or kind == Kind.open):
            began[flow] = at
            if kind != Kind.open:
                out += records(maps, channel | {"records": [(at, Kind.open, flow, 0)]})
        told_of = kind in (Kind.update, Kind.close)
        counts = packets if told_of else 0
        for point in channel["points"]:
            out.append(
                flows(
                    1,
                    maps.endpoints,
                    src=source[0],
                    dst=destination[0],
                    src_ip=source[1],
                    dst_ip=destination[1],
                    start_ns=maps.begin + at * 10**9 + point,
                    first_port=1000 + flow,
                    dst_port=channel["dst_port"],
                    proto=channel["proto"],
                    kind=kind,
                    lost=packets if kind in (Kind.drop, Kind.lost) else 0,
                    drop_reason="NO_SOCKET" if kind == Kind.drop else "",
                    duration=(at - began[flow]) * 10**9 if told_of else 0,
                    packets=counts * (9 - point),
                    bytes=counts * 100,
                    reply_packets=counts,
                    reply_bytes=counts * 50,
                    tcp_flags=2,
                    connect_ns=packets * 1_000_000,
                    src_srtt_us=packets * 10,
                    **POINTS[point],
                )
            )
    return out


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes with a store
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    channels(),
    st.integers(0, 3600).map(lambda s: s * 10**9),  # when flows began is known to the second
    MARGIN,
    st.sampled_from(("", "ns-1")),
    st.sampled_from(("pod", "workload", "namespace", "address", "label:app")),
)
def test_both_maps_are_the_same(
    whole: Maps, what: list[dict[str, Any]], late: int, early: int, namespace: str, group: str
) -> None:
    whole.next()
    rows = [row for channel in what for row in records(whole, channel)]
    for i in range(0, len(rows), 40):
        whole.add(FlowBatch.concat(rows[i : i + 40]))
    from_records, from_rollups = whole.both(
        whole.begin + late, whole.begin + 4 * HOUR - early, namespace, group
    )
    assert from_rollups == from_records


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    channels(),
    st.sampled_from((("end",), ("edge",), ("source",), ("end", "at"), ("edge", "at"), ("proto",))),
    st.integers(0, 3),
    st.sampled_from((0, HOUR, 2 * HOUR + 7)),
    st.sampled_from(("pod", "workload", "namespace")),
    st.booleans(),
)
def test_rows_of_any_kind_are_the_same(
    whole: Maps, what: list[dict[str, Any]], by: tuple[str, ...], kept: int, new: int, group: str,
    latency: bool,
) -> None:  # fmt: skip
    """Also of few and the others, and of those seen first from some time on."""
    whole.next()
    rows = [row for channel in what for row in records(whole, channel)]
    for i in range(0, len(rows), 40):
        whole.add(FlowBatch.concat(rows[i : i + 40]))
    step_s = 1800 * ("at" in by)
    plan = whole.store.plan(whole.begin, whole.begin + 4 * HOUR, step_s * 10**9)
    assert plan.table != "flows"
    plans = (Plan((Slice("flows", plan.from_ns, plan.to_ns),)), plan)

    def asked(only: list[Any]) -> list[dict[Any, dict[str, Any]]]:
        answers = [
            traffic(
                whole.session(p), EVERYTHING, plan.from_ns, plan.to_ns, group=group, by=by,
                step_s=step_s, only=only, latency=latency, nodes=False,
                new_ns=new and whole.begin + new,
            ).rows
            for p in plans
        ]  # fmt: skip
        for key, row in [item for rows in answers for item in rows.items()]:
            if by[0] != "edge" or OTHER in key[0]:
                del row["reporter"]  # of several channels rollups weigh it by other numbers
        return answers

    from_records, from_rollups = asked([])
    assert from_rollups == from_records
    only = sorted({key[0] for key in from_records})[:kept]
    if only and by != ("proto",):
        from_records, from_rollups = asked(only)
        assert from_rollups == from_records


def test_long_flows_count_once_over_all_buckets(maps: Maps) -> None:
    for minute in range(0, 240, 7):
        start = {"start_ns": maps.begin + minute * MINUTE, "duration": minute * MINUTE}
        maps.add(flows(50, maps.endpoints, **start))
    _, answer = maps.both(maps.begin + MINUTE // 2, maps.begin + 4 * HOUR - 1)
    (edge,) = answer["edges"]
    assert (edge["flows"], edge["packets"]) == (50, 34 * 50 * 2)


def test_hours_list_flows_that_were_open_before_them(maps: Maps) -> None:
    for minute in (70, 110, 130):  # they began in the 65th, and were opened then
        lasted = (minute - 65) * MINUTE
        maps.add(flows(5, maps.endpoints, start_ns=maps.begin + minute * MINUTE, duration=lasted))
    listed = [
        maps.store.reader()
        .query(
            f"SELECT toUnixTimestamp(bucket) * {10**9} AS ns, groupUniqArrayArray(carried) AS flows"
            f" FROM {table} WHERE ns >= {maps.begin} AND ns < {maps.begin + 5 * HOUR}"
            " GROUP BY bucket ORDER BY bucket"
        )
        .columns
        for table in ("flows_1m", "flows_1h")
    ]
    assert [(at - maps.begin) // MINUTE for at in listed[1]["ns"]] == [60, 120]
    assert [[len(flows) for flows in table["flows"]] for table in listed] == [[5, 5, 5], [0, 5]]


def test_where_they_differ(maps: Maps) -> None:
    """Flows of one channel with different best points: a rollup knows the channel's only."""
    opened = {"start_ns": maps.begin + 90 * MINUTE, "kind": Kind.open}
    maps.add(flows(3, maps.endpoints, **opened))
    other = {"reporter": Reporter.destination, "first_port": 2000}
    maps.add(flows(2, maps.endpoints, **opened, **other))
    from_records, from_rollups = maps.both(maps.begin, maps.begin + 4 * HOUR)
    edges = [answer["edges"][0] for answer in (from_records, from_rollups)]
    assert [(edge["flows"], edge["packets"]) for edge in edges] == [(5, 10), (3, 6)]


def test_many_flows_are_counted(maps: Maps) -> None:
    for step in range(4):  # half of the flows go on in the next bucket
        batch = flows(10_000, maps.endpoints, start_ns=maps.begin + (40 + 20 * step) * MINUTE)
        batch.columns["src_port"][:] = np.arange(10_000) + 5_000 * step
        batch.columns["kind"][5_000 * (step > 0) :] = Kind.open
        batch.columns["duration"][: 5_000 * (step > 0)] = 20 * MINUTE
        maps.add(batch)
    _, answer = maps.both(maps.begin, maps.begin + 4 * HOUR)
    assert answer["edges"][0]["flows"] == 25_000
    _, answer = maps.both(maps.begin + 90 * MINUTE, maps.begin + 4 * HOUR)
    assert answer["edges"][0]["flows"] == 10_000  # one bucket, of which half were open before


def test_flows_that_an_agent_came_late_for(maps: Maps) -> None:
    """Nothing tells of their opening."""
    for minute in range(60, 90, 5):
        lasted = (minute - 55) * MINUTE
        maps.add(flows(5, maps.endpoints, start_ns=maps.begin + minute * MINUTE, duration=lasted))
    for answer in maps.both(maps.begin, maps.begin + 4 * HOUR):
        assert answer["edges"][0]["flows"] == 5


def test_latencies_and_loss(maps: Maps) -> None:
    for minute in range(0, 240, 9):
        start = maps.begin + minute * MINUTE
        told = {"start_ns": start, "tcp_flags": 2, "connect_ns": (1 + np.arange(100)) * 1_000_000}
        maps.add(flows(100, maps.endpoints, packets=10, src_srtt_us=200, **told))
        far = {"reporter": Reporter.destination, "interface": "veth1"}
        maps.add(flows(100, maps.endpoints, packets=9, src_srtt_us=9000, **far, **told))
    for answer in maps.both(maps.begin + MINUTE // 2, maps.begin + 4 * HOUR - 1):
        (edge,) = answer["edges"]
        found = [edge[f"connect{level}_ms"] for level in ("", "_p95", "_p99")]
        assert found == pytest.approx([50, 95, 99], rel=0.09)
        assert edge["rtt_ms"] == pytest.approx(0.2, rel=0.09)  # of the side that counts
        assert edge["path_loss"] == 26 * 100


def test_steps(maps: Maps) -> None:
    for minute in range(0, 240, 3):
        maps.add(flows(5, maps.endpoints, start_ns=maps.begin + minute * MINUTE, kind=Kind.open))
    plan = maps.store.plan(maps.begin, maps.begin + 4 * HOUR, 30 * MINUTE)
    assert plan.table == "flows_1m"
    records = Plan((Slice("flows", plan.from_ns, plan.to_ns),))
    answers = [
        traffic(
            maps.session(p), EVERYTHING, plan.from_ns, plan.to_ns,
            group="workload", by=("source", "at"), step_s=1800,
        ).rows
        for p in (records, plan)
    ]  # fmt: skip
    assert answers[0] == answers[1]
    begin = maps.begin // 10**9
    assert {key: row["opens"] for key, row in answers[1].items()} == {
        ("shop/web", begin + step * 1800): 50 for step in range(8)
    }


def test_the_other_side_counts_when_an_agent_is_gone(maps: Maps) -> None:
    far = {"reporter": Reporter.destination, "interface": "veth1"}
    for minute in range(0, 240, 5):
        start = maps.begin + minute * MINUTE
        if minute < 127:  # within a unit
            maps.add(flows(1, maps.endpoints, start_ns=start))
        maps.add(flows(1, maps.endpoints, start_ns=start, **far))
    _, answer = maps.both(maps.begin, maps.begin + 4 * HOUR)
    assert answer["edges"][0]["packets"] == 48 * 2
