"""Answers that go on: pages by cursor, long streams, CSV and Arrow, resumed streams, coverage."""

from __future__ import annotations

import csv
import io
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.ipc  # type: ignore[import-untyped]
import pytest

from flowobs import schema
from flowobs.batch import Endpoints
from relay.http import export, history
from relay.http.cursor import Cursor, place
from relay.lines import Lines
from tests.relay.flows import flows, table
from tests.relay.process import Agent, RelayProcess, running, wait_for

HOUR_NS = 3600 * 10**9


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    with running(tmp_path_factory.mktemp("relay")) as relay:
        yield relay


@pytest.fixture(scope="module")
def endpoints() -> Endpoints:
    return table()


@pytest.fixture(scope="module")
def agent(relay: RelayProcess, endpoints: Endpoints) -> Iterator[Agent]:
    """Has stored 45,000 records of port 1000: 30 of each time, of which two are equal."""
    agent = Agent(relay.agents)
    begin = time.time_ns() - HOUR_NS
    for start in range(0, 45_000, 9_000):
        batch = flows(9_000, endpoints, dst_port=1000, first_port=0)
        numbers = range(start, start + 9_000)
        batch.columns["time"][:] = [begin + n // 30 * 4_000_000 for n in numbers]
        batch.columns["src_port"][:] = [n + 1 - (n % 30 == 29) for n in numbers]
        agent.store(batch)
    yield agent
    agent.stop()


@pytest.fixture
def client(relay: RelayProcess, agent: Agent) -> Iterator[httpx.Client]:
    with relay.client() as client:
        yield client


def get(client: httpx.Client, query: str) -> dict[str, Any]:
    answer = client.get(f"/api/v1/flows?{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def paged(client: httpx.Client, query: str) -> Iterator[list[dict[str, Any]]]:
    cursor = ""
    while True:
        page = get(client, query + cursor)
        yield page["flows"]
        if page["next"] is None:
            assert not page["more"]
            return
        cursor = f"&cursor={page['next']}"


SENT = sorted(n + 1 - (n % 30 == 29) for n in range(45_000))


@pytest.mark.parametrize("query", ["last=1777", "first=1777", "last=1777&order=newest"])
def test_pages_have_each_record_once_while_others_come(
    client: httpx.Client, agent: Agent, endpoints: Endpoints, query: str
) -> None:
    """Ends of pages fall between records of one time, and between equal ones."""
    stop = threading.Event()

    def ingest() -> None:
        while not stop.is_set():
            agent.put(flows(200, endpoints, dst_port=1001))
            # newer and older than a page's end, among the times of the others
            time.sleep(random.uniform(0.005, 0.05))

    thread = threading.Thread(target=ingest)
    thread.start()
    try:
        found = list(paged(client, f"q=dst.port:1000&{query}"))
    finally:
        stop.set()
        thread.join()
    assert [len(page) for page in found] == [1777] * 25 + [45_000 - 25 * 1777]
    assert sorted(row["src_port"] for page in found for row in page) == SENT
    rows = [row for page in found for row in page]
    newest = query.startswith("last")
    shown = [row for page in found for row in (page if "order" in query else page[::-1])]
    times = [row["time"] for row in (shown if newest else rows)]
    assert times == sorted(times, reverse=newest)


@pytest.mark.parametrize("query", ["first={}", "last={}", "last={}&order=newest"])
def test_a_long_answer_is_read_in_pages(client: httpx.Client, query: str) -> None:
    """One ends at a record of which there are two."""
    count = history.HELD_ROWS + 15_029
    answer = get(client, f"q=dst.port:1000&{query.format(count)}")
    rows = answer["flows"]
    assert len(rows) == count and answer["more"]
    times = [row["time"] for row in rows]
    assert times == sorted(times, reverse="order" in query)
    (more,) = paged(client, f"q=dst.port:1000&{query.format(5_000)}&cursor={answer['next']}")
    assert sorted(row["src_port"] for row in [*rows, *more]) == SENT


def test_pages_of_what_is_not_stored_yet(
    client: httpx.Client, agent: Agent, endpoints: Endpoints
) -> None:
    """Between two pages records move from memory into the store, and new ones come."""
    ports = iter(range(1, 60_000))
    found: list[int] = []
    for _ in range(200):
        agent.put(flows(1, endpoints, dst_port=1002, first_port=next(ports)))
    cursor, first = "", True
    while True:
        page = get(client, f"q=dst.port:1002&last=7{cursor}")
        found += [row["src_port"] for row in page["flows"]]
        if first:
            newest = max(found, default=0)
        first = False
        agent.put(flows(1, endpoints, dst_port=1002, first_port=next(ports)))
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
        time.sleep(0.02)
    assert sorted(found) == list(range(1, newest + 1))


def test_a_cursor_belongs_to_its_direction(client: httpx.Client) -> None:
    cursor = get(client, "q=dst.port:1000&last=10")["next"]
    answer = client.get(f"/api/v1/flows?q=dst.port:1000&first=10&cursor={cursor}")
    assert answer.status_code == 400 and "answer with `last`" in answer.json()["error"]
    assert len(get(client, f"q=dst.port:1000&cursor={cursor}")["flows"]) == 100


def test_a_cursor_is_the_same_after_its_way_as_text() -> None:
    lines = Lines()(flows(3, kind=schema.Kind.drop, start_ns=time.time_ns()))
    for newest in (True, False):
        cursor = Cursor.behind([*lines, lines[-1]], newest, None)
        assert cursor.copies == 2 and cursor.at == place(lines[-1])
        assert Cursor.parse(cursor.text) == cursor
    assert Cursor(cursor.at, 1, True).beyond([lines[2], lines[2], lines[1]]) == [lines[2], lines[1]]
    for text in ("", "é", "AAAA", cursor.text[:-4]):
        with pytest.raises(ValueError, match="cursor"):
            Cursor.parse(text)


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_everything_since_then_is_streamed(client: httpx.Client, order: str) -> None:
    """More than one page of it: the pages are the relay's own."""
    assert 4 * history.PAGE_ROWS < 45_000
    rows = []
    query = f"q=dst.port:1000&since=2h&format=ndjson&order={order}"
    with client.stream("GET", f"/api/v1/flows?{query}") as answer:
        assert answer.status_code == 200
        rows = [json.loads(line) for line in answer.iter_lines()]
    assert sorted(row["src_port"] for row in rows) == SENT
    times = [row["time"] for row in rows]
    assert times == sorted(times, reverse=order == "newest")


@pytest.mark.parametrize(
    ("query", "ports"),
    [
        ("since=2h", SENT),
        ("since=2h&order=newest", SENT[::-1]),
        ("last=25000", SENT[-25_000:]),
        ("first=25000&order=newest", SENT[:25_000][::-1]),
        ("first=45", SENT[:45]),
        ("last=45&order=newest", SENT[-45:][::-1]),
        ("last=0", []),
        ("q=dst.port:1&since=2h", []),
    ],
)
def test_csv_and_arrow(client: httpx.Client, query: str, ports: list[int]) -> None:
    assert export.PAGE_ROWS < 25_000
    if "port" not in query:
        query += "&q=dst.port:1000"
    fields = "time,src_ip,src_port,kind,close_reason,src_name"
    text = client.get(f"/api/v1/flows?{query}&format=csv&fields={fields}")
    assert text.status_code == 200, text.text
    assert text.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(text.text)))
    data = client.get(
        f"/api/v1/flows?{query}&fields={fields}",
        headers={"accept": "application/vnd.apache.arrow.stream"},
    )
    assert data.headers["content-type"] == "application/vnd.apache.arrow.stream"
    columns = pyarrow.ipc.open_stream(data.content).read_all()
    assert (
        columns.column_names
        == fields.split(",")
        == text.text.split("\n")[0].replace('"', "").split(",")
    )
    assert [int(row["src_port"]) for row in rows] == columns["src_port"].to_pylist()
    assert columns.num_rows == len(ports)
    # within one time the order is open, and so is which of the last time's records are taken
    shown = [(port - 1) // 30 for port in columns["src_port"].to_pylist()]
    assert shown == [(port - 1) // 30 for port in ports]
    if rows:
        way = "first" if "first" in query else "last"
        known = get(client, f"q=dst.port:1000&{way}=1")
        row, wanted = (
            (rows[0], known["flows"][0]) if "first" in query else (rows[-1], known["flows"][-1])
        )
        if "order" not in query:
            assert row["time"] == wanted["time"]
        assert (row["src_ip"], row["kind"], row["src_name"]) == ("10.0.0.1", "update", "web-0")
        assert row["close_reason"] == "none" or row["close_reason"] == ""
        assert str(columns.schema.field("time").type) == "timestamp[ns, tz=UTC]"
        assert str(columns["src_ip"][0]) == "10.0.0.1"


def test_every_field_has_a_csv_and_an_arrow_form(client: httpx.Client) -> None:
    text = client.get("/api/v1/flows?last=1&format=csv").text
    (row,) = csv.DictReader(io.StringIO(text))
    assert list(row) == list(schema.BY_NAME)
    data = client.get("/api/v1/flows?last=1&format=arrow").content
    assert pyarrow.ipc.open_stream(data).read_all().column_names == list(schema.BY_NAME)


def test_hints_of_a_time_without_records(client: httpx.Client) -> None:
    """What is older is not looked at."""

    def hints(window: str) -> dict[str, int]:
        found = client.get(f"/api/v1/hints?q=dst.port:10&{window}").json()["hints"]
        return {hint["text"]: hint["count"] for hint in found}

    assert hints("since=2h&until=40m") == {"1000": 45_000}
    assert hints("since=50m&until=40m") == {}


def sse(lines: Iterator[str], id: str = "") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(id, records) of each event; one without an id has that of the one before."""
    rows = None
    for line in lines:
        if line.startswith("id: "):
            id = line.removeprefix("id: ")
        elif line.startswith("data:"):
            rows = json.loads(line.removeprefix("data:") or "[]")
        elif not line and rows is not None:
            yield id, rows
            rows = None


def test_a_stream_that_breaks_goes_on_where_it_was(
    client: httpx.Client, agent: Agent, endpoints: Endpoints
) -> None:
    """A reader that hangs up at random moments of an ingest has each record once."""
    total, stretch = 3_000, 400
    found: list[int] = []
    id, breaks = "", 0

    def ingest() -> None:
        for first in range(1, total, 10):
            # however slow the reader is, it hangs up in the middle
            wait_for(lambda first=first: first <= stretch * (breaks + 1), 60)
            agent.put(flows(10, endpoints, dst_port=1003, first_port=first))
            time.sleep(0.01)

    thread = threading.Thread(target=ingest)
    url = "/api/v1/flows?follow=true&format=sse&q=dst.port:1003"
    while len(found) < total:
        headers = {"last-event-id": id} if id else {}
        until = len(found) + random.randrange(1, stretch)
        with client.stream("GET", url, headers=headers) as answer:
            assert answer.status_code == 200
            if not breaks:
                thread.start()
            for id, rows in sse(answer.iter_lines(), id):  # noqa: B007, B020 - resumed from
                found += [row["src_port"] for row in rows]
                assert all(row["kind"] != "lost" for row in rows)
                if len(found) >= min(until, total):
                    break
        breaks += 1
    thread.join()
    assert breaks > 5
    assert found == list(range(1, total + 1))


def test_last_then_follow_is_exact_under_ingest(
    client: httpx.Client, agent: Agent, endpoints: Endpoints
) -> None:
    """The last 1,000, then follow, begun again and again while groups are committed."""
    stop = threading.Event()
    sent = 0

    def ingest() -> None:
        nonlocal sent
        while not stop.is_set():
            rows = random.randrange(1, 300)
            batch = flows(rows, endpoints, dst_port=1004, first_port=0)
            # a number that goes on rising, in order of time
            batch.columns["bytes"][:] = range(sent + 1, sent + rows + 1)
            agent.put(batch)
            sent += rows
            time.sleep(random.uniform(0.001, 0.03))

    thread = threading.Thread(target=ingest)
    thread.start()
    try:
        wait_for(lambda: sent > 3_000)
        for format in ("ndjson", "sse") * 6:
            url = f"/api/v1/flows?follow=true&format={format}&q=dst.port:1004&last=1000"
            numbers: list[int] = []
            with client.stream("GET", url) as answer:
                lines = answer.iter_lines()
                if format == "sse":
                    events = (rows for _, rows in sse(lines))
                else:
                    events = ([json.loads(line)] for line in lines if line)
                while len(numbers) < 2_500:
                    numbers += [row["bytes"] for row in next(events)]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            time.sleep(random.uniform(0, 0.3))
    finally:
        stop.set()
        thread.join()


def test_a_follower_may_have_a_long_history(
    client: httpx.Client, agent: Agent, endpoints: Endpoints
) -> None:
    """It is read in pages, while others come."""
    count = history.HELD_ROWS + 15_029
    url = f"/api/v1/flows?follow=true&q=dst.port:1000,1005&last={count}"
    agent.store(flows(1, endpoints, dst_port=1005, first_port=1))
    with client.stream("GET", url) as answer:
        for port in range(2, 50):
            agent.put(flows(1, endpoints, dst_port=1005, first_port=port))
        rows = []
        for line in filter(None, answer.iter_lines()):
            rows.append(json.loads(line))
            if rows[-1]["src_port"] == 49 and rows[-1]["dst_port"] == 1005:
                break
    old = [row["src_port"] for row in rows if row["dst_port"] == 1000]
    new = [row["src_port"] for row in rows if row["dst_port"] == 1005]
    assert new == list(range(1, 50))
    # the newest but those of 1005 that had come when the answer began
    assert count - 49 <= len(old) < count
    times = [row["time"] for row in rows[: len(old)]]
    assert times == sorted(times)
    assert not Counter(old) - Counter(SENT)


def test_a_restarted_relay_goes_on_from_its_store(tmp_path: Path) -> None:
    endpoints = table()
    with running(tmp_path) as relay:
        agent = Agent(relay.agents)
        agent.store(flows(5, endpoints, dst_port=1))
        url = "/api/v1/flows?follow=true&format=sse&last=10"
        with relay.client() as client, client.stream("GET", url) as answer:
            events = sse(answer.iter_lines())
            rows: list[dict[str, Any]] = []
            while len(rows) < 5:
                id, more = next(events)
                rows += more
            while not id:
                id, _ = next(events)
        agent.store(flows(7, endpoints, dst_port=2))
        agent.stop()
    with running(tmp_path) as relay, relay.client() as client:
        with client.stream("GET", url, headers={"last-event-id": id}) as answer:
            behind, rows = next(sse(answer.iter_lines()))
        assert [row["dst_port"] for row in rows] == [2] * 7
        assert behind, "who breaks off here would get them again"
        # coverage, of a store that was just opened
        found = client.get("/api/v1/flows?since=1d").json()["coverage"]
        assert found["note"].startswith("the store begins at 20") and found["live_from"] is None
        assert found["from"][:18] == rows[0]["time"][:18] or found["from"] < rows[0]["time"]


def test_a_question_older_than_the_store_is_told(client: httpx.Client) -> None:
    answer = client.get("/api/v1/flows?since=7d&format=ndjson&q=dst.port:1004")
    assert answer.headers["flowobs-note"].startswith("the store begins at ")
    assert "flowobs-from" in answer.headers and "flowobs-live-from" in answer.headers
    assert "flowobs-note" not in client.get("/api/v1/flows?since=1s").headers
