"""GET /api/v1/whois of a real relay process: what records said, stored ones and newer ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flowobs.rows import time_text
from tests.relay.flows import API, WEB, flows, table
from tests.relay.process import Agent, running

S = 10**9
BASE = time.time_ns() - 3600 * S
OLD = WEB._replace(identity_source="kubernetes", zone="z1")
NEW = OLD._replace(name="web-1")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """10.0.0.1 was shop/web-0, then shop/web-1; both spoke to shop/api-1."""
    with running(tmp_path_factory.mktemp("relay")) as relay:
        agent = Agent(relay.agents)
        endpoints = table()
        for seconds, who in ((0, OLD), (60, OLD), (300, NEW), (1800, NEW)):
            at = BASE + seconds * S
            agent.store(flows(2, endpoints, src=who, dst=API, start_ns=at, src_cookie=7,
                              src_process="nginx", src_pid=seconds // 60 + 1))  # fmt: skip
        with relay.client() as client:
            yield client
        agent.stop()


def ask(client: httpx.Client, **params: Any) -> dict[str, Any]:
    answer = client.get("/api/v1/whois", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_an_addresss_names_newest_first(client: httpx.Client) -> None:
    found = ask(client, q="10.0.0.1")
    new, old = found["seen"]
    assert new == {
        "accepted": True, "address": "10.0.0.1", "source": "kubernetes", "kind": "pod",
        "namespace": "shop", "name": "web-1", "workload": "web", "workload_kind": "Deployment",
        "node": "node-1", "zone": "z1", "first_seen": time_text(BASE + 300 * S),
        "last_seen": time_text(BASE + 1800 * S + 1), "told_by": ["node-1"],
        "reason": "its newest records say so",
    }  # fmt: skip
    assert (old["name"], old["accepted"]) == ("web-0", False)
    assert found["claims"] == [], "this relay has no names of its own"


@pytest.mark.parametrize(
    ("seconds", "accepted"), [(30, ["web-0"]), (1000, ["web-1"]), (200, []), (3000, [])]
)
def test_the_name_of_a_time(client: httpx.Client, seconds: int, accepted: list[str]) -> None:
    found = ask(client, q="10.0.0.1", at=time_text(BASE + seconds * S))
    assert [s["name"] for s in found["seen"] if s["accepted"]] == accepted
    assert len(found["seen"]) == 2


def test_names_and_sockets(client: httpx.Client) -> None:
    (api,) = ask(client, q="shop/api-1")["seen"]
    assert (api["address"], api["first_seen"]) == ("10.0.0.2", time_text(BASE))
    assert len(ask(client, q="web-0")["seen"]) == 1
    assert ask(client, q="other/web-0")["seen"] == []
    seen = ask(client, q="7")["seen"]
    assert [(s["process"], s["pid"], s["name"]) for s in seen] == [
        ("nginx", 31, "web-1"), ("nginx", 6, "web-1"), ("nginx", 2, "web-0"), ("nginx", 1, "web-0"),
    ]  # fmt: skip


def test_how_far_it_looks_back(client: httpx.Client) -> None:
    between = f"{(time.time_ns() - BASE) // S - 180}s"
    assert [s["name"] for s in ask(client, q="10.0.0.1", since=between)["seen"]] == ["web-1"]
    assert ask(client, q="10.0.0.1", since="1s")["seen"] == []


@pytest.mark.parametrize("query", ["", "q=", "q=a/b/c", "q=a&at=noon", "q=a&since=x", "q=a&b=c"])
def test_what_makes_no_sense_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/api/v1/whois?{query}")
    assert answer.status_code == 400 and answer.json()["error"]


def test_records_that_are_in_memory_only_count_too(tmp_path: Path) -> None:
    """Unit: groups of rows of the live buffer are what the store's GROUP BY would give."""
    from relay.http.whois import _SHOWN, _grouped

    endpoints = table()
    batch = flows(5, endpoints, src=OLD, start_ns=BASE)
    batch.columns["src_endpoint"][3:] = endpoints.id(NEW)
    found = sorted(_grouped(batch, "src", _SHOWN), key=lambda seen: seen.first_ns)
    assert [(s.values[4], s.first_ns - BASE, s.last_ns - BASE) for s in found] == [
        ("web-0", 0, 2), ("web-1", 3, 4),
    ]  # fmt: skip
    assert found[0].told_by == {"node-1"}
