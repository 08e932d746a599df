"""Time series, top and diff: what the answers say is what the records add up to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from flowobs.batch import Endpoint, FlowBatch
from flowobs.filters import EVERYTHING, Filter, from_parameters
from flowobs.schema import EndpointKind, Kind, Reporter
from flowobs.times import parse_time
from relay.http import diff, timeseries, top
from relay.http.diff import DiffQuery
from relay.http.timeseries import SeriesQuery, aligned, automatic
from relay.http.top import TopQuery
from relay.http.trends import Asked
from relay.store import Store
from relay.store.ends import Ends
from relay.store.plan import Plan, plan
from tests.relay.flows import flows, table

S, MINUTE, HOUR = 10**9, 60 * 10**9, 3600 * 10**9
PODS = [
    Endpoint(EndpointKind.pod, "", f"ns-{i % 3}", f"pod-{i}", f"w-{i % 4}", "Deployment")
    for i in range(6)
]
EDGES = [(0, 1), (0, 2), (1, 2), (2, 5), (3, 3), (4, 0), (5, 1)]
ROWS = 6_000


class Truth:
    """Records of four hours, as arrays, and what they add up to."""

    def __init__(self, begin: int) -> None:
        rng = np.random.default_rng(7)
        self.begin = begin
        self.time = begin + rng.integers(0, 4 * HOUR, ROWS)
        self.edge = rng.choice(len(EDGES), ROWS, p=np.array([9, 7, 5, 3, 3, 2, 1]) / 30)
        self.kind = rng.choice([Kind.open, Kind.update, Kind.update, Kind.drop], ROWS)
        counts = self.kind == Kind.update
        self.packets = rng.integers(1, 90, ROWS) * counts
        self.bytes = self.packets * rng.integers(60, 1400, ROWS)
        self.reply = rng.integers(0, 5, ROWS) * counts
        self.rtt_us = rng.integers(200, 90_000, ROWS) * (1 + self.edge) * counts

    def batches(self, endpoints: Any) -> Iterator[FlowBatch]:
        """Each record twice: both ends tell of it. A packet is dropped at one."""
        for i, (source, destination) in enumerate(EDGES):
            for reporter in (Reporter.source, Reporter.destination):
                mine = self.edge == i
                if reporter == Reporter.destination:
                    mine &= self.kind != Kind.drop
                batch = flows(
                    int(mine.sum()), endpoints, src=PODS[source], dst=PODS[destination],
                    src_ip=f"10.0.0.{source}", dst_ip=f"10.0.0.{destination}", dst_port=100 + i,
                    reporter=reporter, interface=f"veth{reporter}", kind=self.kind[mine],
                    packets=self.packets[mine], bytes=self.bytes[mine],
                    reply_packets=self.reply[mine], reply_bytes=self.reply[mine] * 50,
                    src_srtt_us=self.rtt_us[mine],
                )  # fmt: skip
                batch.columns["time"][:] = self.time[mine]
                batch.columns["src_port"][:] = 1000 + np.flatnonzero(mine) % 700
                yield batch

    def values(self, measure: str) -> np.ndarray[Any, Any]:
        """What each record adds."""
        return {
            "bytes": self.bytes + self.reply * 50,
            "packets": self.packets + self.reply,
            "opens": self.kind == Kind.open,
            "drops": self.kind == Kind.drop,
        }[measure].astype("i8")

    def of(self, by: str, group: str) -> list[set[Any]]:
        """Whose each record is: a set, as an edge has two ends."""

        def name(i: int) -> str:
            end = PODS[i]
            return {"pod": f"{end.namespace}/{end.name}", "namespace": end.namespace}[group]

        keys: list[set[Any]] = []
        for i, (source, destination) in enumerate(EDGES):
            a, b = name(source), name(destination)
            known = {"source": {a}, "destination": {b}, "end": {a, b}, "edge": {(a, b, 100 + i)}}
            keys.append(known[by])
        return [keys[i] for i in self.edge]

    def sums(
        self, measure: str, by: str, group: str, from_ns: int, to_ns: int, step: int
    ) -> dict[Any, np.ndarray[Any, Any]]:
        """Sums by step, of each group."""
        found: dict[Any, np.ndarray[Any, Any]] = {}
        points = (to_ns - from_ns) // step
        values = self.values(measure)
        inside = (self.time >= from_ns) & (self.time < to_ns)
        whose = self.of(by, group) if by != "total" else [{None}] * ROWS
        for i in np.flatnonzero(inside):
            for key in whose[i]:
                line = found.setdefault(key, np.zeros(points, "i8"))
                line[(self.time[i] - from_ns) // step] += values[i]
        return found


class Answers:
    """A store, and what the API answers of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        reader = store.reader()
        self.query, self.arrays, self.ends = reader.query, reader.arrays, Ends()
        self.endpoints = table()
        self._inserts = 0

    def plan(self, *when: int) -> Plan:
        return self.store.plan(*when)

    def add(self, *batches: FlowBatch) -> None:
        self._inserts += 1
        self.store.insert(batches, f"insert-{self._inserts}")

    def get(self, part: Any, query: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(part.build(self, query))
        return answer


def opened(folder: Any) -> Store:
    return Store.open(f"chdb://{folder / 'store'}", retention="flows=60d,1m=60d,1h=1y")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    store = opened(tmp_path_factory.mktemp("trends"))
    yield Answers(store)
    store.close()


@pytest.fixture(scope="module")
def truth(answers: Answers) -> Truth:
    truth = Truth((time.time_ns() // HOUR - 30) * HOUR)
    answers.add(*truth.batches(answers.endpoints))
    return truth


def key_of(row: dict[str, Any], by: str) -> Any:
    if row.get("other"):
        return "other"
    if by == "total":
        return None
    return (row["source"], row["destination"], row["port"]) if by == "edge" else row[by]


@pytest.mark.parametrize("measure", ["bytes", "drops"])
@pytest.mark.parametrize(
    ("by", "group"),
    [("total", "pod"), ("edge", "pod"), ("source", "pod"), ("end", "pod"), ("end", "namespace")],
)
@pytest.mark.parametrize(
    ("since", "until", "step_s"),
    [
        (0, 4 * HOUR, 3600),
        (17 * MINUTE + 3, 3 * HOUR + 41 * MINUTE - 1, 60),
        (17 * MINUTE + 3, 3 * HOUR + 41 * MINUTE - 1, 420),
        (HOUR - 3, HOUR + 5 * MINUTE + 1, 10),
    ],
)
def test_series_are_the_sums_of_records(
    answers: Answers, truth: Truth, measure: str, by: str, group: str,
    since: int, until: int, step_s: int,
) -> None:  # fmt: skip
    what = Asked(EVERYTHING, truth.begin + since, truth.begin + until, group, 2)
    found = answers.get(timeseries, SeriesQuery(what, by, measure, step_s))
    step = step_s * S
    from_ns, to_ns = what.from_ns // step * step, -(-what.to_ns // step) * step
    sums = truth.sums(measure, by, group, from_ns, to_ns, step)
    lines = {key_of(row, by): row["values"] for row in found["series"]}
    assert found["step_s"] == step_s and len(found["at"]) == (to_ns - from_ns) // step
    largest = sorted(sums, key=lambda key: (-sums[key].sum(), str(key)))[:2]
    for key in largest:
        assert lines[key] == sums[key].tolist()
    if by == "total":
        assert list(lines) == [None]
        return
    rest = [line for key, line in sums.items() if key not in largest]
    if by != "end":
        assert lines["other"] == np.sum(rest, 0).tolist()


def test_quantiles_of_the_others_are_those_of_their_records(answers: Answers, truth: Truth) -> None:
    what = Asked(EVERYTHING, truth.begin, truth.begin + 4 * HOUR, "pod", 2)
    found = answers.get(timeseries, SeriesQuery(what, "edge", "rtt_p95_ms", 3600))
    assert found["table"] == "flows_1h"
    slowest = {key_of(row, "edge")[2] - 100 for row in found["series"] if not row.get("other")}
    assert slowest == {5, 6}  # each edge is slower than the one before
    others = (truth.kind == Kind.update) & (truth.edge < 5)
    (line,) = (row["values"] for row in found["series"] if row.get("other"))
    for i, value in enumerate(line):
        here = others & ((truth.time - truth.begin) // HOUR == i)
        expected = np.quantile(truth.rtt_us[here], 0.95) / 1000
        assert value == pytest.approx(expected, rel=0.1)


def test_the_first_rate_is_that_of_the_time_that_the_store_knows(
    answers: Answers, truth: Truth
) -> None:
    what = Asked(EVERYTHING, truth.begin - HOUR, truth.begin + 4 * HOUR, "pod", 2)
    steps = SeriesQuery(what, "total", "bytes", 7200), SeriesQuery(what, "total", "rate", 7200)
    counts, rates = (answers.get(timeseries, query) for query in steps)
    at = [parse_time(text, 0) or 0 for text in rates["at"]]
    oldest = int(truth.time.min())
    first = next(i for i, begin in enumerate(at) if begin + 2 * HOUR > oldest)
    known = at[first] + 2 * HOUR - max(at[first], oldest)
    assert known < 2 * HOUR, "the store begins within a step"
    expected = counts["series"][0]["values"][first] * S / known
    assert rates["series"][0]["values"][first] == pytest.approx(expected, rel=1e-6)
    assert rates["series"][0]["values"][first + 1] == pytest.approx(
        counts["series"][0]["values"][first + 1] / 7200, rel=1e-6
    )


def test_points_without_traffic(answers: Answers, truth: Truth) -> None:
    """None of a latency, 0 of a count; but nothing where the store does not reach back."""
    what = Asked(EVERYTHING, truth.begin - HOUR, truth.begin + 6 * HOUR, "pod", 2)
    counts = answers.get(timeseries, SeriesQuery(what, "total", "bytes", 3600))
    assert counts["series"][0]["values"][0] is None
    assert counts["series"][0]["values"][-2:] == [0, 0]
    assert counts["covered_from"] > counts["from"]
    times = answers.get(timeseries, SeriesQuery(what, "total", "rtt_ms", 3600))
    assert times["series"][0]["values"][-2:] == [None, None]


def test_what_may_not_be_stored_yet_is_no_zero(answers: Answers) -> None:
    now = time.time_ns()
    what = Asked(EVERYTHING, now - MINUTE, now, "pod", 2)
    found = answers.get(timeseries, SeriesQuery(what, "total", "bytes", 1))
    newest = parse_time(found["at"][-1], 0)
    assert newest is not None and now - 20 * S < newest < time.time_ns() - 4 * S


def test_nothing_to_rank_is_no_series(answers: Answers, truth: Truth) -> None:
    what = Asked(EVERYTHING, truth.begin, truth.begin + 4 * HOUR, "pod", 2)
    assert answers.get(timeseries, SeriesQuery(what, "source", "resets"))["series"] == []
    found = answers.get(top, TopQuery(what, "source", "resets"))
    assert (found["rows"], found["total"], found["other"]["count"]) == ([], 0, 0)


@pytest.mark.parametrize("seconds", [60, 61, 119, 300, 3600, 7200, 36_000, 86_400 * 365])
def test_an_automatic_step_makes_a_readable_number_of_points(seconds: int) -> None:
    assert 50 <= seconds / automatic(seconds) <= 120
    assert automatic(10**10) % 604_800 == 0


def test_steps_are_not_shorter_than_buckets() -> None:
    now = time.time_ns() // HOUR * HOUR

    def planned(from_ns: int, to_ns: int, step_ns: int) -> Plan:
        complete = {"flows": now - HOUR, "flows_1m": now - 5 * HOUR, "flows_1h": 0}
        return plan(from_ns, to_ns, complete, step_ns=step_ns)

    assert aligned(planned, now - MINUTE * 30 - 1, now, 10, 0)[2] == 10
    assert aligned(planned, now - 2 * HOUR, now, 10, 0)[2] == 60
    begin, end, step_s = aligned(planned, now - 9 * HOUR - 1, now - 7, 600, 0)
    assert (begin, end, step_s) == (now - 10 * HOUR, now, 3600)


def test_a_time_from_before_the_store_keeps_its_steps() -> None:
    """The oldest hour's bucket begins before the oldest minute's, with nothing in between."""
    now = time.time_ns() // HOUR * HOUR
    oldest = now - 90 * MINUTE

    def planned(from_ns: int, to_ns: int, step_ns: int) -> Plan:
        complete = {"flows": oldest, "flows_1m": oldest, "flows_1h": now - 2 * HOUR}
        return plan(from_ns, to_ns, complete, step_ns=step_ns)

    assert aligned(planned, now - 10 * HOUR, now, 300, 0)[2] == 3600
    assert aligned(planned, now - 10 * HOUR, now, 300, oldest)[2] == 300


@pytest.mark.parametrize("by", ["edge", "source", "destination", "end"])
@pytest.mark.parametrize("measure", ["packets", "opens"])
def test_top_is_the_largest_sums(answers: Answers, truth: Truth, by: str, measure: str) -> None:
    begin, end = truth.begin + 7 * MINUTE + 1, truth.begin + 3 * HOUR + 1
    found = answers.get(top, TopQuery(Asked(EVERYTHING, begin, end, "pod", 3), by, measure))
    step = end - begin
    sums = {k: int(v.sum()) for k, v in truth.sums(measure, by, "pod", begin, end, step).items()}
    total = int(truth.sums(measure, "total", "pod", begin, end, step)[None].sum())
    largest = sorted(sums.values(), reverse=True)[:3]
    assert [row["value"] for row in found["rows"]] == largest
    assert [sums[key_of(row, by)] for row in found["rows"]] == largest
    assert found["total"] == total
    assert [row["share"] for row in found["rows"]] == [round(v / total, 6) for v in largest]
    assert found["other"]["count"] == len(sums) - 3
    if by != "end":
        assert found["other"]["value"] == total - sum(largest)
    # what is not shown need not be asked for: latencies
    every = answers.get(top, TopQuery(Asked(EVERYTHING, begin, end, "pod", 100), by, measure))
    assert every["rows"][:3] == found["rows"] and all(row["rtt_ms"] for row in found["rows"])


def test_newcomers_were_not_there_before(answers: Answers, truth: Truth) -> None:
    now = truth.begin + 8 * HOUR
    old, new = PODS[1], PODS[3]
    for src, dst, port, minutes in ((old, new, 1, 0), (old, new, 1, 30), (old, new, 2, 30)):
        start_ns = now + minutes * MINUTE
        answers.add(flows(5, answers.endpoints, src=src, dst=dst, dst_port=port, start_ns=start_ns))
    answers.add(
        flows(9, answers.endpoints, src=new, dst=old, dst_port=3, start_ns=now + 30 * MINUTE)
    )
    what = Asked(EVERYTHING, now + 20 * MINUTE, now + 40 * MINUTE, "pod", 10)
    found = answers.get(top, TopQuery(what, new=True))
    ports = [(row["port"], row["value"]) for row in found["rows"]]
    assert ports == [(3, 9 * 300), (2, 5 * 300)]
    assert found["new_since"] < found["from"]
    # ten minutes before, the first one was not there either
    short = answers.get(top, TopQuery(what, new=True, before_ns=10 * MINUTE))
    assert {row["port"] for row in short["rows"]} == {1, 2, 3}
    by_pod = answers.get(top, TopQuery(what, by="source", new=True))
    assert [row["source"] for row in by_pod["rows"]] == []
    answers.add(
        flows(1, answers.endpoints, src=new, dst=old, dst_port=9, start_ns=now + 50 * MINUTE)
    )


def test_of_an_empty_past_nothing_is_new(answers: Answers, truth: Truth) -> None:
    what = Asked(EVERYTHING, truth.begin - HOUR, truth.begin + HOUR, "pod", 10)
    found = answers.get(top, TopQuery(what, new=True))
    assert (found["rows"], found["new_since"]) == ([], None)
    found = answers.get(diff, DiffQuery(what, HOUR))
    assert (found["changes"], found["before"]["covered"]) == ([], "none")
    what = Asked(EVERYTHING, truth.begin + 9 * MINUTE, truth.begin + HOUR, "pod", 10)
    found = answers.get(diff, DiffQuery(what, HOUR))
    assert found["before"]["covered"] == "part"
    assert not [c for c in found["changes"] if c["change"] == "new"]


def steady(answers: Answers, begin: int, hours: int, port: int, **columns: Any) -> None:
    """300 flows an hour, each opened and closed."""
    for hour in range(hours):
        for kind in (Kind.open, Kind.close):
            at = begin + hour * HOUR + 10 * MINUTE
            answers.add(
                flows(
                    300,
                    answers.endpoints,
                    src=PODS[0],
                    dst=PODS[1],
                    dst_port=port,
                    start_ns=at,
                    kind=kind,
                    src_srtt_us=0 if kind == Kind.open else 2000,
                    **columns,
                )
            )


@pytest.mark.parametrize("before_hours", [1, 3])
def test_diff_tells_what_changed_and_nothing_else(
    answers: Answers, truth: Truth, before_hours: int
) -> None:
    begin = truth.begin + (10 if before_hours == 1 else 15) * HOUR
    after = begin + before_hours * HOUR
    steady(answers, begin, before_hours + 1, port=1)  # as it was
    steady(answers, begin, before_hours, port=2)  # vanishes
    steady(answers, after, 1, port=3)  # new
    steady(answers, begin, before_hours, port=4)  # slows down
    steady(answers, after, 1, port=4, dst_srtt_us=9000, src_rtt_ns=0)
    steady(answers, begin, before_hours, port=5)  # has five times the bytes
    steady(answers, after, 1, port=5, bytes=1200)
    steady(answers, begin, before_hours + 1, port=6)  # is dropped
    drops = {"kind": Kind.drop, "packets": 0, "bytes": 0, "reply_packets": 0, "reply_bytes": 0}
    answers.add(
        flows(90, answers.endpoints, src=PODS[0], dst=PODS[1], dst_port=6,
              start_ns=after + 9 * MINUTE, drop_reason="NO_SOCKET", **drops)
    )  # fmt: skip
    slow = flows(2000, answers.endpoints, src=PODS[0], dst=PODS[1], dst_port=4,
                 start_ns=after + 20 * MINUTE, src_srtt_us=9000, packets=0, reply_packets=0,
                 bytes=0, reply_bytes=0)  # fmt: skip
    answers.add(slow)
    filter: Filter = from_parameters({"pod": ["ns-0/pod-0"]})
    what = Asked(filter, after, after + HOUR, "pod", 50)
    found = answers.get(diff, DiffQuery(what, before_hours * HOUR))
    changes = {c["port"]: c for c in found["changes"]}
    assert {port: c["change"] for port, c in changes.items()} == {
        6: "changed", 4: "changed", 3: "new", 2: "vanished", 5: "changed",
    }  # fmt: skip
    assert [c["port"] for c in found["changes"]][:2] == [6, 4]
    assert found["changes"][-1]["port"] == 5
    assert changes[6]["measures"]["drops"] == {
        "before": 0, "after": 0.025, "difference": 0.025, "factor": None,
    }  # fmt: skip
    assert "rtt_ms" in changes[4]["measures"]
    rtt = changes[4]["measures"]["rtt_ms"]
    assert (rtt["before"], rtt["after"]) == (pytest.approx(2, rel=0.1), pytest.approx(9, rel=0.1))
    assert changes[5]["measures"].keys() == {"bytes"}
    assert changes[5]["measures"]["bytes"]["factor"] == pytest.approx(1300 / 300, rel=1e-3)
    assert (found["count"], found["more"], found["before"]["covered"]) == (5, False, "all")


def test_the_time_before_begins_with_its_minute_where_this_one_does() -> None:
    def before(from_ns: int, length: int) -> tuple[int, int]:
        what = Asked(EVERYTHING, HOUR + from_ns, HOUR + from_ns + length, "pod", 50)
        begin, end = DiffQuery(what, length).before
        return begin - HOUR, end - HOUR

    assert before(0, 5 * MINUTE + 7) == (-6 * MINUTE, 0)
    assert before(0, 5 * MINUTE) == (-5 * MINUTE, 0)
    assert before(7, 5 * MINUTE) == (7 - 5 * MINUTE, 7)  # times are what they say
    assert before(0, MINUTE + 7) == (-MINUTE - 7, 0)


def test_diff_against_as_much_time_some_time_ago(answers: Answers, truth: Truth) -> None:
    begin = truth.begin + 21 * HOUR
    steady(answers, begin, 1, port=7)
    steady(answers, begin + HOUR, 1, port=8)  # neither in one nor in the other
    steady(answers, begin + 3 * HOUR, 1, port=7, bytes=1200)
    what = Asked(EVERYTHING, begin + 3 * HOUR, begin + 4 * HOUR, "pod", 50)
    found = answers.get(diff, DiffQuery(what, HOUR, against_ns=3 * HOUR))
    assert [(c["port"], c["change"]) for c in found["changes"]] == [(7, "changed")]
    assert parse_time(found["before"]["from"], 0) == begin
    assert parse_time(found["before"]["to"], 0) == begin + HOUR
