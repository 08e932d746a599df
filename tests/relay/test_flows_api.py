"""GET /api/v1/flows of a real relay process, with records that came over gRPC."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flowobs import schema
from flowobs.batch import Endpoints
from flowobs.rows import time_text
from tests.relay.flows import API, DB, WEB, flows, table
from tests.relay.process import Agent, RelayProcess, running

MINUTE_NS = 60 * 10**9


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    with running(tmp_path_factory.mktemp("relay")) as relay:
        yield relay


@pytest.fixture(scope="module")
def endpoints() -> Endpoints:
    return table()


@pytest.fixture(scope="module")
def agent(relay: RelayProcess, endpoints: Endpoints) -> Iterator[Agent]:
    """An agent that has stored 4 flows web -> api:8080, 1 drop web -> db:5432, an old one."""
    agent = Agent(relay.agents)
    now = time.time_ns() - 10**9
    agent.store(flows(4, endpoints, start_ns=now, src=WEB, dst=API))
    agent.store(
        flows(
            1,
            endpoints,
            start_ns=now + 100,
            src=WEB,
            dst=DB._replace(labels="app=db,team=pay", services="db,db-ro"),
            kind=schema.Kind.drop,
            verdict=schema.Verdict.dropped,
            dst_port=5432,
            drop_reason="NETFILTER_DROP",
        )
    )
    agent.store(flows(1, endpoints, start_ns=now - 10 * MINUTE_NS, dst_port=9999))
    yield agent
    agent.stop()


@pytest.fixture
def client(relay: RelayProcess, agent: Agent) -> Iterator[httpx.Client]:
    with relay.client() as client:
        yield client


def get(client: httpx.Client, query: str = "", **headers: str) -> list[dict[str, Any]]:
    answer = client.get(f"/api/v1/flows?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["flows"]
    return rows


@pytest.mark.parametrize(
    ("query", "ports"),
    [
        ("", [9999, 8080, 8080, 8080, 8080, 5432]),
        ("last=2", [8080, 5432]),
        ("last=0", []),
        ("since=5m", [8080, 8080, 8080, 8080, 5432]),
        ("until=5m", [9999]),
        ("since=1d&until=5m", [9999]),
        ("port=5432", [5432]),
        ("port=5432&port=9999", [9999, 5432]),
        ("namespace=shop&verdict=dropped", [5432]),
        ("pod=legacy-db", [5432]),
        ("pod=shop/api-*", [9999, 8080, 8080, 8080, 8080]),
        ("kind=drop&kind=open", [5432]),
        ("proto=udp", []),
        ("proto=6&last=1", [5432]),
        ("q=port:5432 or port:9999", [9999, 5432]),
        ("q=pod:shop/api-* and not port:8080", [9999]),
        ("q=dst.port:8080 bytes<1kB&last=1", [8080]),
        ("q=legacy&kind=drop", [5432]),
        ("q=legacy&kind=update", []),
        ("q=", [9999, 8080, 8080, 8080, 8080, 5432]),
    ],
)
def test_filters_and_ranges(client: httpx.Client, query: str, ports: list[int]) -> None:
    assert [row["dst_port"] for row in get(client, query)] == ports


def test_a_record_is_complete(client: httpx.Client) -> None:
    (row,) = get(client, "kind=drop")
    assert (
        row.items()
        >= {
            "kind": "drop",
            "verdict": "dropped",
            "drop_reason": "NETFILTER_DROP",
            "src_ip": "10.0.0.1",
            "src_namespace": "shop",
            "src_name": "web-0",
            "src_kind": "pod",
            "dst_name": "legacy-db",
            "dst_kind": "vm",
            "proto": "tcp",
        }.items()
    )


def test_absolute_times(client: httpx.Client) -> None:
    newest = get(client, "last=1")[0]["time"]
    assert [row["dst_port"] for row in get(client, f"since={newest}")] == [5432]
    assert [row["dst_port"] for row in get(client, f"until={newest}&last=1")] == [8080]
    local = time_text(time.time_ns() - MINUTE_NS).replace("Z", "%2B00:00")
    assert len(get(client, f"since={local}")) == 5
    assert len(get(client, f"since={local.replace('%2B', '+')}")) == 5


def test_more_is_said(client: httpx.Client) -> None:
    answer = client.get("/api/v1/flows?last=2")
    assert answer.json()["more"] is True and answer.headers["flowobs-more"] == "true"
    assert client.get("/api/v1/flows").json()["more"] is False


def test_formats(client: httpx.Client) -> None:
    expected = get(client)
    lines = client.get("/api/v1/flows", headers={"accept": "application/x-ndjson"})
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line) for line in lines.text.splitlines()] == expected
    events = client.get("/api/v1/flows?format=sse")
    assert events.headers["content-type"].startswith("text/event-stream")
    event, data, *_ = events.text.split("\n")
    assert event == "event: flows" and json.loads(data.removeprefix("data: ")) == expected


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("namspace=shop", "there is no parameter `namspace`; did you mean `namespace`?"),
        ("port=http", "`port` cannot be `http`; use a number up to 65535"),
        ("first=1&last=1", "`first` begins with the oldest; leave out `last` and `follow`"),
        ("first=1&follow=true", "`first` begins with the oldest; leave out `last` and `follow`"),
        ("order=up", "`order` cannot be `up`; use newest or oldest"),
        ("order=newest&follow=true", "`follow` goes on with newer records"),
        ("cursor=x", "`cursor` is none; give the `next` of the answer before"),
        ("cursor=AAAA&follow=true", "`cursor` is none"),
        ("fields=time", "`fields` are for csv and arrow"),
        ("format=csv&fields=tme", "there is no field `tme`; did you mean `time`?"),
        ("format=ndjson&last=100001", "add order=newest (flows: --newest-first)"),
        ("follow=true&resume=x", "`resume` is no id of an event; leave it out"),
        ("last=-1", "`last` cannot be `-1`; use a number up to 100000"),
        ("last=100001", "`last` cannot be `100001`; use a number up to 100000"),
        ("last=1&last=2", "`last` is given twice; give it once"),
        ("since=yesterday", "`since` cannot be `yesterday`; write `5m`"),
        ("since=2026-02-30T00:00:00Z", "`since` cannot be"),
        ("since=9999-01-01T00:00:00Z", "`since` cannot be"),
        ("since=1m&until=1h", "`since` is not before `until`; swap them or leave one out"),
        ("format=xml", "`format` cannot be `xml`; use json, ndjson, sse, csv, arrow"),
        ("follow=maybe", "`follow` cannot be `maybe`; use true or false"),
        ("follow=true&format=json", "use format=ndjson or format=sse"),
        ("follow=true&until=1m", "`until` ends an answer and `follow` goes on"),
        ("proto=%00", "`proto` cannot be"),
    ],
)
def test_bad_requests_get_one_sentence(client: httpx.Client, query: str, sentence: str) -> None:
    answer = client.get(f"/api/v1/flows?{query}")
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"] and sentence in answer.json()["error"]


def test_a_bad_question_says_where(client: httpx.Client) -> None:
    answer = client.get("/api/v1/flows", params={"q": "port:443 and kind:opn"})
    assert answer.status_code == 400
    assert answer.json() == {"error": "`kind` cannot be `opn`; did you mean `open`?", "column": 19}
    answer = client.get("/api/v1/service-map", params={"q": "namspace:shop"})
    assert answer.status_code == 400 and answer.json()["column"] == 1
    assert client.get("/api/v1/flows?q=a&q=b").json() == {
        "error": "`q` is given twice; give it once"
    }


def test_the_map_answers_a_question(client: httpx.Client) -> None:
    def edges(q: str) -> list[tuple[str, str, int]]:
        answer = client.get("/api/v1/service-map", params={"q": q, "since": "1h"})
        assert answer.status_code == 200, answer.text
        return sorted((e["source"], e["destination"], e["port"]) for e in answer.json()["edges"])

    assert edges("verdict:dropped") == [("shop/web-0", "legacy-db", 5432)]
    assert edges("to:shop/api-*") == [
        ("shop/web-0", "shop/api-1", 8080),
        ("shop/web-0", "shop/api-1", 9999),
    ]
    assert edges("port:1") == []

    def nodes(q: str) -> list[tuple[str, str]]:
        answer = client.get("/api/v1/service-map", params={"q": q, "since": "1h"})
        return sorted((n["id"], n["kind"]) for n in answer.json()["nodes"])

    # fields that the record has, and its ends, too
    both = [("legacy-db", "vm"), ("shop/web-0", "pod")]
    assert nodes("kind:drop") == nodes("kind:drop node:node-1") == both


def hints(client: httpx.Client, **params: Any) -> dict[str, Any]:
    answer = client.get("/api/v1/hints", params={"since": "1h", **params})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_hints_name_fields_and_values_with_their_numbers(client: httpx.Client) -> None:
    found = hints(client, q="port:443 and ki")
    assert (found["start"], found["field"]) == (14, "")
    assert found["hints"][0] == {"text": "kind:", "about": "what happened"}

    def counted(q: str) -> dict[str, int]:
        return {hint["text"]: hint["count"] for hint in hints(client, q=q)["hints"]}

    assert counted("kind:dr") == {"drop": 1}
    assert counted("verdict:dropped pod:") == {"legacy-db": 1, "shop/web-0": 1}
    assert counted("dst.port:5") == {"5432": 1}
    assert counted("verdict:dropped pod:we") == {"shop/web-0": 1}
    assert counted("kind:drop to:LEG") == {"legacy-db": 1}
    assert counted("kind:drop src.ip:") == {"10.0.0.1": 1}
    assert counted("reason:N") == {"NETFILTER_DROP": 1}
    assert counted("label:") == {"app=db": 1, "team=pay": 1}
    assert counted("to.label:TEAM=") == {"team=pay": 1}
    assert counted("service:db") == {"db": 1, "db-ro": 1}
    assert counted("ns:") == {"shop": 6}  # a record once, though both ends are there
    assert counted("bytes:1") == counted("src.identity_age:") == counted("nothing:x") == {}


def test_hints_are_found_by_what_they_say(
    client: httpx.Client, agent: Agent, endpoints: Endpoints
) -> None:
    odd = WEB._replace(namespace="ops", name="Café 0")
    started, until = time.time_ns() - 150 * MINUTE_NS, "2h"
    agent.store(
        flows(1, endpoints, start_ns=started, src=odd, proto=schema.Protocol.icmp, src_port=77)
    )

    def asked(q: str) -> list[str]:
        return [hint["text"] for hint in hints(client, q=q, since="3h", until=until)["hints"]]

    assert asked("port:") == []  # an echo identifier is none
    (pod,) = asked("pod:ops")
    answer = client.get("/api/v1/flows", params={"q": f"pod:{pod}", "since": "3h", "until": until})
    assert [flow["src_name"] for flow in answer.json()["flows"]] == ["Café 0"]


@pytest.mark.parametrize("query", ["q=a&at=3", "q=a&at=0", "at=x", "q=" + 5000 * "a", "last=1"])
def test_hints_refuse_what_makes_no_sense(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/api/v1/hints?{query}")
    assert answer.status_code == 400 and "error" in answer.json()


def test_other_errors(client: httpx.Client) -> None:
    assert client.get("/api/v2/flows").json() == {
        "error": "there is nothing at /api/v2/flows; see docs/api.md"
    }
    assert client.post("/api/v1/flows").status_code == 405
    assert "error" in client.post("/api/v1/flows").json()


def read_rows(lines: Iterator[str], count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while len(rows) < count:
        line = next(lines)
        if line:
            rows.append(json.loads(line))
    return rows


def test_follow_starts_with_new_records(
    client: httpx.Client, agent: Agent, endpoints: Endpoints
) -> None:
    url = "/api/v1/flows?follow=true&port=7001"
    with client.stream("GET", url, headers={"accept": "*/*"}) as answer:
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        lines = answer.iter_lines()
        assert next(lines) == ""  # connected
        agent.put(flows(3, endpoints, dst_port=7001))
        agent.put(flows(3, endpoints, dst_port=7002))
        agent.put(flows(1, endpoints, dst_port=7001, first_port=5))
        rows = read_rows(lines, 4)
    assert [row["src_port"] for row in rows] == [40000, 40001, 40002, 5]


def test_history_goes_on_live_without_gap_or_duplicate(
    client: httpx.Client, agent: Agent, endpoints: Endpoints
) -> None:
    """Followers that start while records stream in see each record exactly once."""
    total = 1_200
    begin = time.time_ns()
    for start in range(0, 400, 10):
        agent.put(flows(10, endpoints, dst_port=7100, first_port=1 + start))
    for attempt in range(4):
        with client.stream("GET", "/api/v1/flows?follow=true&port=7100&since=10m") as answer:
            lines = answer.iter_lines()
            first = 401 + 200 * attempt
            for start in range(0, 200, 10):
                agent.put(flows(10, endpoints, dst_port=7100, first_port=first + start))
            rows = read_rows(lines, first + 199)
        assert sorted(row["src_port"] for row in rows) == list(range(1, first + 200))
    assert first + 199 == total and time.time_ns() > begin


def test_records_not_yet_stored_are_in_history(
    client: httpx.Client, agent: Agent, endpoints: Endpoints
) -> None:
    agent.put(flows(2, endpoints, dst_port=7200))
    deadline = time.monotonic() + 60
    while len(rows := get(client, "port=7200")) < 2:
        assert time.monotonic() < deadline
    assert len(rows) == 2
    time.sleep(0.5)
    assert len(get(client, "port=7200")) == 2


def test_losses_pass_every_filter_but_kind(
    client: httpx.Client, agent: Agent, endpoints: Endpoints
) -> None:
    """Who filters by a pod must see that some of its records may be missing."""
    agent.put(
        flows(1, endpoints, kind=schema.Kind.lost, lost=7, drop_reason="ring_full", dst_port=0)
    )
    deadline = time.monotonic() + 60
    while not (rows := get(client, "pod=nobody/at-all")) and time.monotonic() < deadline:
        time.sleep(0.05)
    (row,) = rows
    assert (row["lost"], row["drop_reason"]) == (7, "ring_full")
    assert get(client, "pod=nobody/at-all&kind=drop") == []
    assert get(client, "q=pod:nobody/at-all src.kind:vm") == [row]
    assert get(client, "q=pod:nobody/at-all and not kind:open,lost") == []
    assert [r["kind"] for r in get(client, "kind=lost")] == ["lost"]


def test_sse_follows(client: httpx.Client, agent: Agent, endpoints: Endpoints) -> None:
    with client.stream("GET", "/api/v1/flows?follow=true&format=sse&port=7300") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: alive"
        agent.put(flows(2, endpoints, dst_port=7300))
        assert "event: flows" in lines and next(lines).startswith("id: ")
        data = json.loads(next(lines).removeprefix("data: "))
    assert [row["dst_port"] for row in data] == [7300, 7300]


def test_subscribers_are_forgotten_when_they_leave(client: httpx.Client, tmp_path: Path) -> None:
    with client.stream("GET", "/api/v1/flows?follow=true"):
        assert client.get("/api/v1/status").json()["live"]["subscribers"] >= 1
    deadline = time.monotonic() + 60
    while client.get("/api/v1/status").json()["live"]["subscribers"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_opening_comes_before_what_happened_at_the_same_time(
    client: httpx.Client, agent: Agent, endpoints: Endpoints
) -> None:
    """A flow of one packet: the same nanosecond, and the drain's record may be stored first."""
    at = time.time_ns()
    agent.put(flows(1, endpoints, dst_port=7400, start_ns=at, first_port=1))
    agent.put(flows(1, endpoints, dst_port=7400, start_ns=at, first_port=1, kind=schema.Kind.open))
    wanted = ["open", "update"]  # once they are in the store; in memory they are as they came
    deadline = time.monotonic() + 60
    kinds: list[str] = []
    while kinds != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
        kinds = [row["kind"] for row in get(client, "port=7400&kind=open&kind=update")]
    assert kinds == wanted
