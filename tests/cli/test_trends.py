"""``flows top``, ``flows series`` and ``flows diff``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from flowobs.cli.series import spark
from tests.cli.fake_relay import FakeRelay
from tests.cli.terminal import Terminal, run

EVIL = "\x1b[2J\n"
SPAN = {
    "from": "2026-11-22T10:00:00.000000000Z",
    "to": "2026-11-22T11:00:00.000000000Z",
    "covered_from": "2026-11-22T10:00:00.000000000Z",
}
EDGE = {"source": "shop/web-0", "destination": "shop/api-1", "proto": "tcp", "port": 8080}
TOP = SPAN | {
    "by": "edge",
    "measure": "drops",
    "total": 40,
    "rows": [
        EDGE
        | {"value": 30, "share": 0.75, "flows": 1200, "bytes": 10, "reply_bytes": 20, "drops": 30}
        | {"drop_reasons": {"NO_SOCKET": 30}}
    ],
    "other": {"count": 7, "value": 10, "share": 0.25},
    "more": False,
}
SERIES = SPAN | {
    "by": "source",
    "measure": "connect_ms",
    "step_s": 600,
    "at": [f"2026-11-22T10:{m}0:00.000000000Z" for m in range(6)],
    "series": [
        {"source": "shop", "values": [1, 2, None, 8, 4, 5]},
        {"other": True, "values": [0, 0, 0, 0, 0, 1500]},
    ],
}
PAIR = {"before": 0.5, "after": 1.5, "difference": 1.0, "factor": 3.0}
LESS = {"before": 30.0, "after": 2.0, "difference": -28.0, "factor": 0.0667}
DIFF = SPAN | {
    "by": "edge",
    "before": {
        "from": "2026-11-22T09:00:00.000000000Z",
        "to": "2026-11-22T10:00:00.000000000Z",
        "covered_from": "2026-11-22T09:30:00.000000000Z",
        "covered": "part",
    },
    "changes": [
        EDGE | {"change": "changed", "measures": {"drops": PAIR, "rtt_ms": PAIR, "opens": LESS}},
        EDGE | {"change": "maybe_new", "port": 0, "measures": {"bytes": PAIR | {"factor": None}}},
    ],
    "count": 12,
    "more": False,
}


@pytest.fixture
def relay() -> Iterator[FakeRelay]:
    documents = {"/api/v1/top": TOP, "/api/v1/timeseries": SERIES, "/api/v1/diff": DIFF}
    with FakeRelay(documents=documents) as relay:
        yield relay


def on_terminal(*args: str, relay: FakeRelay, **env: str) -> list[str]:
    with Terminal(*args, server=relay.url, NO_COLOR="1", **env) as terminal:
        assert terminal.end() == 0
    return terminal.text.splitlines()


def test_top(relay: FakeRelay) -> None:
    assert on_terminal("top", "--measure", "drops", relay=relay) == [
        "EDGE                               DROPS  SHARE  FLOWS  OUT/BACK  TROUBLE",
        "shop/web-0 -> shop/api-1:8080 tcp     30  75.0%  1,200  10/20 B   30 drops (NO_SOCKET)",
        "-- 7 more, 10 (25.0%); --limit shows them --",
    ]
    (request,) = relay.requests
    assert request == (
        "/api/v1/top", {"since": ["5m"], "by": ["edge"], "measure": ["drops"], "limit": ["10"]},
    )  # fmt: skip


def test_newcomers(relay: FakeRelay) -> None:
    relay.documents["/api/v1/top"] = TOP | {"new_since": "2026-11-20T00:00:00.000000000Z"}
    lines = on_terminal("top", "--new", "--before", "3d", "port:53", relay=relay)
    assert lines[-1] == "-- not seen from 2026-11-20T00:00:00Z to 2026-11-22T10:00:00Z --"
    ((_, asked),) = relay.requests
    assert (asked["new"], asked["before"], asked["q"]) == (["True"], ["3d"], ["port:53"])
    relay.documents["/api/v1/top"] = TOP | {"new_since": None, "rows": []}
    assert on_terminal("top", "--new", relay=relay) == [
        "-- nothing is stored from before 2026-11-22T10:00:00Z: what is new cannot be told --"
    ]
    result = run("top", "--before", "1d", server=relay.url)
    assert result.returncode == 2 and "add --new" in result.stderr


def test_series_are_bars_of_one_scale(relay: FakeRelay) -> None:
    lines = on_terminal("series", "--each", "source", relay=relay)
    assert [" ".join(line.split()) for line in lines] == [
        "MIN MEAN MAX LAST",
        "shop ▁▁ ▁▁▁ 1 ms 4 ms 8 ms 5 ms",
        "other ▁▁▁▁▁█ 0 ms 250 ms 1.5 s 1.5 s",
        "-- connect in steps of 10 min, 2026-11-22T10:00:00Z to 2026-11-22T11:00:00Z,"
        " highest bar 1.5 s --",
    ]


def test_a_bar_is_the_largest_of_its_points() -> None:
    assert spark([0, 8, 0, 0, None, None], 8, 3) == "█▁ "
    assert spark([], 1, 9) == ""
    assert spark([0.0, 0.0], 0, 9) == "▁▁"


def test_diff(relay: FakeRelay) -> None:
    edge = "shop/web-0 -> shop/api-1"
    assert on_terminal("diff", relay=relay) == [
        f"~            {edge}:8080 tcp  drops 0.5/s -> 1.5/s (x3), rtt 500 us -> 1.5 ms (x3),"
        " opens 30/s -> 2/s (/15)",
        f"? maybe new  {edge} tcp       bytes 2 B/s",
        "-- 10 changes of less importance; --limit shows them --",
        "-- compared with 2026-11-22T09:00:00Z to 2026-11-22T10:00:00Z --",
        "-- the store begins at 2026-11-22T09:30:00Z: what seems new may be older --",
    ]
    run("diff", "--against", "1d", server=relay.url)
    assert relay.requests[-1][1]["against"] == ["1d"]


def test_csv(relay: FakeRelay) -> None:
    lines = run("diff", "-o", "csv", server=relay.url).stdout.splitlines()
    assert lines[0] == "source,destination,proto,port,change,measure,before,after,difference,factor"
    assert lines[1] == "shop/web-0,shop/api-1,tcp,8080,changed,drops,0.5,1.5,1.0,3.0"
    lines = run("series", "-o", "csv", server=relay.url).stdout.splitlines()
    assert lines[0] == "at,source,connect_ms"
    assert lines[3] == "2026-11-22T10:20:00.000000000Z,shop,"
    lines = run("top", "-o", "csv", server=relay.url).stdout.splitlines()
    assert lines[0].startswith("source,destination,proto,port,value,share,flows,")
    assert lines[1].startswith("shop/web-0,shop/api-1,tcp,8080,30,0.75,1200,")


def test_long_names_make_room_for_numbers(relay: FakeRelay) -> None:
    long = {"source": f"shop/{'payment-service-' * 4}x2vp", "destination": f"pay/{'db-' * 30}0"}
    for path, name in (("top", "rows"), ("diff", "changes")):
        found = relay.documents[f"/api/v1/{path}"]
        row = found[name][0] | long
        relay.documents[f"/api/v1/{path}"] = found | {name: [row]}
        first = next(line for line in on_terminal(path, relay=relay) if "shop/" in line)
        assert len(first) <= 120
        assert "x2vp -> pay/" in first and "0:8080 tcp" in first
    piped = run("top", "-o", "table", server=relay.url).stdout
    assert f"{long['source']} -> {long['destination']}:8080" in piped


@pytest.mark.parametrize("command", ["top", "series", "diff"])
def test_nothing_found_says_so(relay: FakeRelay, command: str) -> None:
    nothing: dict[str, Any] = {"rows": [], "series": [], "changes": [], "count": 0, "other": None}
    relay.documents = {path: found | nothing for path, found in relay.documents.items()}
    first = on_terminal(command, relay=relay)[0]
    assert re.match(r"-- no (drops|connect|change) between 2026-11-22T10:00:00Z and", first)


@pytest.mark.parametrize("command", ["top", "series", "diff"])
def test_hostile_documents_do_not_reach_the_terminal(relay: FakeRelay, command: str) -> None:
    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(part) for key, part in value.items()} | {EVIL: 1}
        if isinstance(value, list):
            return [*map(spoil, value), EVIL]
        return EVIL if isinstance(value, str | int) and value is not True else value

    relay.documents = {path: spoil(found) for path, found in relay.documents.items()}
    text = "\n".join(on_terminal(command, relay=relay))
    assert re.findall(r"[^\n\x20-\x7e▁▂▃▄▅▆▇█…]", text) == []
