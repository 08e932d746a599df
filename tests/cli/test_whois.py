"""``flows whois``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.cli.fake_relay import FakeRelay
from tests.cli.terminal import Terminal, run

FOUND = {
    "query": "10.0.0.1",
    "at": "2026-11-22T12:05:00Z",
    "claims": [
        {"accepted": True, "source": "kubernetes", "address": "10.0.0.1", "kind": "pod",
         "namespace": "shop", "name": "web-1", "workload": "web", "workload_kind": "Deployment",
         "container": "nginx", "since": "2026-11-22T12:03:15Z", "reason": "it had the address"},
        {"accepted": False, "source": "kubernetes", "address": "10.0.0.1", "kind": "pod",
         "namespace": "shop", "name": "web-0", "until": "2026-11-22T12:03:11Z",
         "reason": "no longer"},
    ],
    "seen": [
        {"accepted": True, "source": "kubernetes", "address": "10.0.0.1", "kind": "host",
         "name": "laptop", "process": "nginx", "pid": 7,
         "first_seen": "2026-11-22T12:04:00.123456789Z",
         "last_seen": "2026-11-22T12:04:59Z", "told_by": ["n1", "n2", "n3", "n4"],
         "reason": "its newest records say so"},
    ],
}  # fmt: skip


@pytest.fixture
def relay() -> Iterator[FakeRelay]:
    with FakeRelay(documents={"/api/v1/whois": FOUND, "/whois": FOUND | {"seen": None}}) as relay:
        yield relay


def test_it_is_a_table_of_who_says_what(relay: FakeRelay) -> None:
    result = run("whois", "10.0.0.1", "-o", "text", server=relay.url)
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        "10.0.0.1 at 2026-11-22T12:05:00Z",
        "",
        "what sources say",
        "* pod shop/web-1 (Deployment web, container nginx)",
        "    10.0.0.1, named by kubernetes, since 2026-11-22T12:03:15Z: it had the address",
        "  pod shop/web-0",
        "    10.0.0.1, named by kubernetes, until 2026-11-22T12:03:11Z: no longer",
        "",
        "what records say",
        "* host laptop (process nginx 7)",
        "    10.0.0.1, named by kubernetes, 2026-11-22T12:04:00.123Z to 2026-11-22T12:04:59Z: "
        "its newest records say so, told by n1, n2, n3 ...",
    ]
    assert relay.requests == [("/api/v1/whois", {"q": ["10.0.0.1"]})]


def test_in_a_pipe_it_is_the_answer(relay: FakeRelay) -> None:
    result = run("whois", "shop/web-1", "--at", "5m", "--since", "2d", server=relay.url)
    assert json.loads(result.stdout) == FOUND
    assert relay.requests == [
        ("/api/v1/whois", {"q": ["shop/web-1"], "at": ["5m"], "since": ["2d"]})
    ]


def test_an_agent_can_be_asked(relay: FakeRelay) -> None:
    result = run(
        "whois", "10.0.0.1", "--agent", relay.url, "-o", "text", server="http://127.0.0.1:9"
    )
    assert result.returncode == 0 and "records say" not in result.stdout
    assert relay.requests == [("/whois", {"q": ["10.0.0.1"]})]
    relay.documents["/whois"] = {"query": "10.9.9.9", "node": "n1", "claims": []}
    result = run("whois", "10.9.9.9", "--agent", relay.url, server="http://127.0.0.1:9")
    assert result.returncode == 3
    assert "The agent of n1 does not know 10.9.9.9. Ask the relay, without" in result.stderr
    result = run("whois", "a", "--agent", "http://127.0.0.1:9", server=relay.url)
    assert result.returncode == 4
    assert "No agent answers at http://127.0.0.1:9." in result.stderr
    result = run("whois", "a", "--agent", relay.url, "--since", "5m", server=relay.url)
    assert result.returncode == 2 and "leave it out with --agent" in result.stderr


def test_nobody_is_exit_code_3(relay: FakeRelay) -> None:
    relay.documents["/api/v1/whois"] = {"query": "10.9.9.9", "at": "x", "claims": [], "seen": []}
    result = run("whois", "10.9.9.9", server=relay.url)
    assert result.returncode == 3
    assert "Nobody knows 10.9.9.9. Look further back with --since" in result.stderr


def test_a_refused_question(relay: FakeRelay) -> None:
    relay.status, relay.error = 400, "`q` says nothing; give an address"
    result = run("whois", "", server=relay.url)
    assert result.returncode == 2 and "give an address" in result.stderr


def test_hostile_answers_do_not_reach_the_terminal(relay: FakeRelay) -> None:
    evil = "\x1b[31m\u202e"
    spoilt = {key: evil for key in FOUND["claims"][0]} | {"told_by": [evil, 1], "process": evil}  # type: ignore[index]
    relay.documents["/api/v1/whois"] = {"query": evil, "claims": [spoilt, 1], "seen": [spoilt]}
    with Terminal("whois", "a", server=relay.url, NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    assert re.findall(r"[^\n\x20-\x7e]", terminal.text) == []
