"""/api/v1/timeseries, top and diff of a real relay, over HTTP and by the ``flows`` command."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowobs.measures import MEASURES
from flowobs.rows import time_text
from flowobs.schema import Kind
from flowobs.times import parse_rfc3339
from tests.cli.terminal import Terminal, run
from tests.relay.flows import flows
from tests.relay.process import Agent, RelayProcess, running

MINUTE = 60 * 10**9


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """A relay that holds a known hour: port 8080 all the time, port 9 new since 20 minutes."""
    with running(tmp_path_factory.mktemp("relay")) as relay:
        agent = Agent(relay.agents)
        now = time.time_ns()
        for minutes in (55, 35, 15, 5):
            agent.store(flows(200, start_ns=now - minutes * MINUTE, kind=Kind.close))
        agent.store(flows(150, start_ns=now - 15 * MINUTE, dst_port=9, kind=Kind.close))
        agent.stop()
        yield relay


@pytest.mark.parametrize(
    ("measure", "by"),
    [*((m, "edge") for m in MEASURES), *(("flows", by) for by in ("source", "destination", "end"))],
)
def test_every_measure_of_everything(relay: RelayProcess, measure: str, by: str) -> None:
    asked = {"since": "1h", "measure": measure, "by": by, "group": "workload"}
    with relay.client() as client:
        for path in ("top", "timeseries"):
            answer = client.get(f"/api/v1/{path}", params=asked)
            assert answer.status_code == 200, answer.text
            assert answer.json()["measure"] == measure


@pytest.mark.parametrize(
    ("path", "parameters", "sentence"),
    [
        ("timeseries", {"step": "1s", "since": "1h"}, "3600 steps are too many; use a `step` of"),
        ("timeseries", {"step": "0s"}, "`step` cannot be `0s`; write a length of time"),
        ("timeseries", {"step": "1.5s"}, "`step` cannot be `1.5s`; use whole seconds: 30s"),
        ("timeseries", {"limit": "21"}, "`limit` cannot be `21`; use a number from 1 to 20"),
        ("timeseries", {"by": "pod"}, "`by` cannot be `pod`; use total, edge, source,"),
        ("timeseries", {"since": "2026-01-01T00:00:00Z", "until": "2025-01-01T00:00:00Z"}, "swap"),
        ("top", {"by": "total"}, "`by` cannot be `total`; use edge, source, destination, end"),
        ("top", {"measure": "latency"}, "`measure` cannot be `latency`; use bytes, packets,"),
        ("top", {"before": "1d"}, "add `new=true`"),
        ("top", {"new": "1", "before": "-1d"}, "`before` cannot be `-1d`; write a length"),
        ("top", {"new": "1", "before": "9" * 30 + "d"}, "write a length of time like"),
        ("top", {"limit": "x"}, "`limit` cannot be `x`; use a number from 1 to 1000"),
        ("top", {"since": "1h", "group": "label:"}, "`group` cannot be `label:`"),
        ("diff", {"measure": "bytes"}, "there is no parameter `measure`; "),
        ("diff", {"group": "pods"}, "`group` cannot be `pods`"),
        ("diff", {"against": "1d", "before": "1d"}, "leave out `before`"),
        (
            "diff",
            {"since": "2h", "against": "1h"},
            "`against` cannot be `1h`: so long ago is a part",
        ),
        ("diff", {"q": "nod:x"}, "there is no field `nod`; did you mean `node`?"),
    ],
)
def test_what_is_wrong_is_said(
    relay: RelayProcess, path: str, parameters: dict[str, str], sentence: str
) -> None:
    with relay.client() as client:
        answer = client.get(f"/api/v1/{path}", params=parameters)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize("parameters", [{"since": "9000d"}, {"step": "3650d"}])
def test_long_times_have_few_points(relay: RelayProcess, parameters: dict[str, str]) -> None:
    with relay.client() as client:
        found = client.get("/api/v1/timeseries", params={"since": "1h", **parameters}).json()
    assert len(found["at"]) <= 121
    assert sum(v or 0 for v in found["series"][0]["values"]) == 285_000


def test_the_command_shows_what_the_relay_says(relay: RelayProcess) -> None:
    with Terminal("top", "--since", "1h", server=relay.url, NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    first, second, third = (" ".join(x.split()) for x in terminal.text.splitlines()[:3])
    assert first == "EDGE BYTES SHARE FLOWS OUT/BACK"
    assert second.startswith("shop/web-0 -> shop/api-1:8080 tcp 240.0 kB 84.2% ")
    assert third.startswith("shop/web-0 -> shop/api-1:9 tcp 45.0 kB 15.8% ")
    new = json.loads(run("top", "--new", "--since", "20m", server=relay.url).stdout)
    assert [row["port"] for row in new["rows"]] == [9]
    changes = json.loads(run("diff", "--since", "30m", server=relay.url).stdout)
    assert [(c["port"], c["change"]) for c in changes["changes"]] == [(9, "maybe_new")]
    yesterday = json.loads(run("diff", "--against", "1d", server=relay.url).stdout)
    assert yesterday["before"]["covered"] == "none"
    rows = csv.DictReader(
        io.StringIO(run("series", "-o", "csv", "port:9", server=relay.url).stdout)
    )
    assert sum(int(row["bytes"] or 0) for row in rows) == 45_000
    with Terminal("series", "--each", "edge", server=relay.url, NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    assert "shop/web-0 -> shop/api-1:8080 tcp" in terminal.text and "█" in terminal.text


@pytest.mark.parametrize("path", ["service-map", "top", "diff"])
def test_how_long_ago_begins_with_its_minute(relay: RelayProcess, path: str) -> None:
    def begin(since: str) -> int | None:
        with relay.client() as client:
            answer = client.get(f"/api/v1/{path}", params={"since": since})
        return parse_rfc3339(answer.json()["from"])

    before = time.time_ns()
    asked = begin("15m")
    assert asked is not None and asked % MINUTE == 0
    assert before // MINUTE <= asked // MINUTE + 15 <= time.time_ns() // MINUTE
    at = before - 10 * MINUTE + MINUTE // 2 - before % MINUTE
    assert begin(time_text(at)) == at  # a time is what it says
    assert (begin("90s") or 0) >= before - MINUTE * 3 // 2


def test_a_map_says_where_the_store_begins(relay: RelayProcess) -> None:
    with relay.client() as client:
        known = client.get("/api/v1/service-map?since=58m").json()
        more, nothing = (
            client.get(f"/api/v1/service-map?since=9d{only}").json() for only in ("", "&q=port:1")
        )
    first = min(edge["first_seen"] for edge in more["edges"])
    assert more["covered_from"] == nothing["covered_from"] == first > more["from"]
    assert known["covered_from"] == first
    lines = run("map", "--since", "9d", "-o", "tree", server=relay.url).stdout.splitlines()
    assert lines[-1] == f"-- the store begins at {first[:19]}Z --"


def test_a_refusal_is_exit_code_2(relay: RelayProcess, tmp_path: Path) -> None:
    result = run("series", "--step", "1s", "--since", "1d", server=relay.url)
    assert result.returncode == 2
    assert "86400 steps are too many; use a `step` of at least 87s" in result.stderr
