"""``flows map`` and ``flows status``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.fake_relay import FakeRelay
from tests.cli.terminal import Terminal, run

EVIL = "\x1b[2J\n"


def edge(source: str, destination: str, **values: Any) -> dict[str, Any]:
    return {
        "source": source,
        "destination": destination,
        "proto": "tcp",
        "port": 8080,
        "flows": 12,
        "bytes": 9000,
        "reply_bytes": 80000,
    } | values


MAP = {
    "from": "2026-11-22T10:00:00Z",
    "to": "2026-11-22T10:05:00Z",
    "covered_from": "2026-11-22T10:00:00Z",
    "nodes": [],
    "edges": [
        edge("shop/web-0", "kube-system/dns", proto="udp", port=53, bytes=10, reply_bytes=20),
        edge("shop/web-0", "shop/api-1"),
        edge("shop/api-1", "shop/db-0", bytes=10**7, drops=3, drop_reasons={"NO_SOCKET": 3}),
        edge("1.2.3.4", "shop/web-0", proto="icmp", port=0, flows=1, retransmits=1, fails=2),
        # three seconds of five minutes are 1 %: less than that may just not have been told yet
        edge(
            "node-1",
            "shop/db-0",
            bytes=30,
            reply_bytes=0,
            sent_packets=150,
            reply_sent_packets=50,
            path_loss=3,
        ),
        edge(
            "node-1",
            "shop/db-1",
            bytes=20,
            reply_bytes=0,
            sent_packets=150,
            reply_sent_packets=50,
            path_loss=2,
        ),
        edge(
            "node-1",
            "shop/db-2",
            bytes=10,
            reply_bytes=0,
            sent_packets=None,
            reply_sent_packets=None,
            path_loss=None,
        ),
    ],
}
STATUS = {
    "version": "0.1.0",
    "uptime_s": 7380,
    "store": {
        "url": "chdb:///var/lib/flowobs/store",
        "engine": "ClickHouse 26.9.2.1 (chdb)",
        "healthy": True,
        "rows": 1000,
        "bytes": 57000,
        "tables": {"flows": 50000, "flows_1m": 7000},
        "oldest": "2026-11-22T10:00:00Z",
        "newest": "2026-11-22T10:05:00Z",
        "retention": "3d",
        "lag_s": 0.4,
        "error": None,
    },
    "live": {"subscribers": 1, "buffered": 4096, "oldest": "2026-11-22T10:00:00Z"},
    "agents": [
        {
            "agent": "node-1",
            "node": "node-1",
            "connected": True,
            "version": "0.1.0",
            "last_seen": "2026-11-22T10:05:00Z",
            "rows": 1000,
            "lost": 0,
        }
    ],
    "lost": {"subscriber_slow": 0},
}


@pytest.fixture
def relay() -> Iterator[FakeRelay]:
    documents = {"/api/v1/service-map": MAP, "/api/v1/status": STATUS}
    with FakeRelay(documents=documents) as relay:
        yield relay


def test_the_map_is_a_tree_of_callers(relay: FakeRelay) -> None:
    with Terminal("map", "-n", "shop", server=relay.url, NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    assert terminal.text.splitlines() == [
        "shop/api-1",
        "`- shop/db-0:8080 tcp      12 flows  10.0/0.1 MB  3 drops (NO_SOCKET)",
        "shop/web-0",
        "|- shop/api-1:8080 tcp     12 flows  9.0/80.0 kB",
        "`- kube-system/dns:53 udp  12 flows  10/20 B",
        "1.2.3.4",
        "`- shop/web-0 icmp           1 flow  9.0/80.0 kB  2 fails, 1 retransmit",
        "node-1",
        "|- shop/db-0:8080 tcp      12 flows  30/0 B       3 lost on the path (1.5%)",
        "|- shop/db-1:8080 tcp      12 flows  20/0 B",
        "`- shop/db-2:8080 tcp      12 flows  10/0 B",
    ]
    assert relay.requests == [("/api/v1/service-map", {"since": ["5m"], "namespace": ["shop"]})]


def test_the_map_in_a_pipe_is_the_answer(relay: FakeRelay) -> None:
    assert json.loads(run("map", server=relay.url).stdout) == MAP


def test_the_map_takes_a_question(relay: FakeRelay) -> None:
    run("map", "pod:shop/*", "!port:53", server=relay.url)
    assert relay.requests == [
        ("/api/v1/service-map", {"since": ["5m"], "q": ["pod:shop/* !port:53"]})
    ]


def test_the_map_by_workload(relay: FakeRelay) -> None:
    run("map", "--by", "workload", server=relay.url)
    assert relay.requests == [("/api/v1/service-map", {"since": ["5m"], "group": ["workload"]})]


def test_long_names_make_room_for_numbers(relay: FakeRelay) -> None:
    long = f"shop/{'payment-service-' * 5}x2vp"
    relay.documents["/api/v1/service-map"] = MAP | {"edges": [edge("shop/web-0", long, drops=3)]}
    with Terminal("map", server=relay.url, columns=80, NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    line = terminal.text.splitlines()[1]
    assert line.startswith("`- shop/payment") and "x2vp:8080 tcp" in line
    assert line.endswith("3 drops") and len(line) <= 80
    assert long in run("map", "-o", "tree", server=relay.url).stdout


def test_an_empty_map_says_so(relay: FakeRelay) -> None:
    fine = dict.fromkeys(("from", "covered_from"), "2026-11-22T10:00:00.123456789Z")
    relay.documents["/api/v1/service-map"] = MAP | {"edges": []} | fine
    result = run("map", "-o", "tree", server=relay.url)
    span = "2026-11-22T10:00:00Z and 2026-11-22T10:05:00Z"
    assert result.stdout == f"-- nobody talked between {span} --\n"


def test_a_map_says_where_the_store_begins(relay: FakeRelay) -> None:
    relay.documents["/api/v1/service-map"] = MAP | {"covered_from": "2026-11-22T10:04:07.5Z"}
    result = run("map", "-o", "tree", server=relay.url)
    assert result.stdout.splitlines()[-1] == "-- the store begins at 2026-11-22T10:04:07Z --"


def test_status(relay: FakeRelay) -> None:
    result = run("status", "-o", "text", server=relay.url)
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        f"relay  {relay.url}, version 0.1.0, up 2 h 3 min",
        "store  chdb:///var/lib/flowobs/store, ClickHouse 26.9.2.1 (chdb)",
        "       1,000 records, kept 3d",
        "       57.0 kB on disk: flows 50.0 kB, flows_1m 7.0 kB",
        "       2026-11-22T10:00:00Z to 2026-11-22T10:05:00Z",
        "       400 ms behind what agents have sent",
        "live   1 subscriber, 4,096 records in memory, since 2026-11-22T10:00:00Z",
        "lost   nothing",
        "names  up to date",
        "",
        "AGENT   NODE    STATE      VERSION  RECORDS  LOST  LAST SEEN",
        "node-1  node-1  connected  0.1.0      1,000     0  2026-11-22T10:05:00Z",
    ]


def test_status_of_a_watched_cluster(relay: FakeRelay) -> None:
    identity = {
        "cluster": "demo",
        "resources": [
            {"resource": "nodes", "objects": 3, "age_s": 1.5, "stale": False, "off": False},
            {"resource": "pods", "objects": 1200, "age_s": 95.0, "stale": True, "off": False,
             "problem": "HTTP 503"},
            {"resource": "services", "objects": 1, "age_s": 90.0, "stale": True, "off": False,
             "problem": "HTTP 503"},
            {"resource": "jobs", "objects": 0, "age_s": None, "stale": False, "off": True},
        ],
        "agents": [{"agent": "node-1", "lag_s": 0.4}, {"agent": "node-2", "lag_s": 70}],
    }  # fmt: skip
    relay.documents["/api/v1/status"] = STATUS | {"identity": identity}
    lines = run("status", "-o", "text", server=relay.url).stdout.splitlines()
    assert lines[8:12] == [
        "names  cluster demo: 3 nodes, 1,200 pods, 1 service",
        "       given to 2 agents",
        "       NOT FRESH: pods, services: 1 min 35 s old: HTTP 503",
        "       node-2 is 1 min 10 s behind",
    ]


def test_status_tells_whose_names_may_be_out_of_date(relay: FakeRelay) -> None:
    agents = [{"agent": f"node-{n}", "names_age_s": age} for n, age in ((1, 0), (2, 95))]
    relay.documents["/api/v1/status"] = STATUS | {"agents": agents}
    result = run("status", "-o", "text", server=relay.url)
    assert "names  node-2 1 min 35 s old" in result.stdout.splitlines()


def test_status_tells_what_the_disk_budget_keeps_shorter(relay: FakeRelay) -> None:
    early = [{"table": "flows", "since": "2026-11-22T10:00:00.5Z", "wanted_s": 259_200}]
    store = STATUS["store"] | {"dropped_early": early}  # type: ignore[operator]
    relay.documents["/api/v1/status"] = STATUS | {"store": store}
    lines = run("status", "-o", "text", server=relay.url).stdout.splitlines()
    since = "flows kept since 2026-11-22T10:00:00Z, wanted 3 d"
    assert lines[3] == f"       {since}: the disk budget (--max-disk) drops older ones"


def test_status_of_a_sick_store_is_exit_code_1(relay: FakeRelay) -> None:
    store = STATUS["store"] | {"healthy": False, "error": "the disk is full"}  # type: ignore[operator]
    relay.documents["/api/v1/status"] = STATUS | {"store": store, "agents": []}
    result = run("status", "-o", "text", server=relay.url)
    assert "NOT HEALTHY: the disk is full" in result.stdout
    assert " on disk: " in result.stdout  # what takes it
    assert "no agent has connected yet" in result.stdout
    assert result.returncode == 1
    assert run("status", server=relay.url).returncode == 1


def test_hostile_documents_do_not_reach_the_terminal(relay: FakeRelay) -> None:
    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(part) for key, part in value.items()} | {EVIL: 1}
        if isinstance(value, list):
            return [*map(spoil, value), EVIL]
        return EVIL if isinstance(value, str | int) and value is not True else value

    relay.documents = {path: spoil(found) for path, found in relay.documents.items()}
    for command in ("map", "status"):
        with Terminal(command, server=relay.url, NO_COLOR="1") as terminal:
            assert terminal.end() == 0
        assert re.findall(r"[^\n\x20-\x7e]", terminal.text) == []
