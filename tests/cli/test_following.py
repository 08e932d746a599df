"""``flows`` as a tail: what comes, who is not there, a relay that goes and comes back, the end."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli.fake_relay import FakeRelay, record
from tests.cli.terminal import ENV, FLOWS, Terminal, plain

CLOSE = record(kind="close", close_reason="fin_source", duration=12_000_000, packets=10)
DROP = record(kind="drop", verdict="dropped", drop_reason="NO_SOCKET")


@pytest.fixture
def relay() -> Iterator[FakeRelay]:
    with FakeRelay() as relay:
        yield relay


def test_flows_alone_follows_and_ctrl_c_is_quiet(relay: FakeRelay) -> None:
    relay.history, relay.live = [DROP], [record()]
    with Terminal(server=relay.url) as terminal:
        terminal.wait_for("open")
        assert terminal.interrupt() == 130
    assert plain(terminal.text)[0] == f"-- following {relay.url}, times are UTC, Ctrl-C ends --"
    assert "Abort" not in terminal.text
    assert "NO_SOCKET" not in terminal.text
    assert relay.requests == [("/api/v1/flows", {"follow": ["true"]})]


def test_a_tail_says_when_nobody_is_there_to_tell(relay: FakeRelay) -> None:
    relay.documents["/api/v1/status"] = {"agents": [{"agent": "node-1", "connected": False}]}
    with Terminal(server=relay.url) as terminal:
        terminal.wait_for("-- no agent is connected, nothing new can come: flows status --")
        assert terminal.interrupt() == 130
    assert relay.requests[1:] == [("/api/v1/status", {})]


def test_follow_with_last_shows_the_past_first(relay: FakeRelay) -> None:
    relay.history, relay.live = [DROP], [CLOSE]
    with Terminal("-f", "--last", "20", server=relay.url) as terminal:
        terminal.wait_for("fin_source")
    assert terminal.text.index("NO_SOCKET") < terminal.text.index("fin_source")


def test_a_relay_that_comes_back_is_followed_again(relay: FakeRelay) -> None:
    relay.history, relay.live = [DROP], [record()]
    with Terminal("-f", "--last", "1", server=relay.url) as terminal:
        terminal.wait_for("open")
        relay.__exit__(None, None, None)
        terminal.wait_for("Trying again. --")
        with FakeRelay(port=relay.port, history=[DROP], live=[CLOSE]) as again:
            terminal.wait_for("fin_source")
    notes = [line for line in plain(terminal.text) if line.startswith("--")]
    assert notes[-2].startswith(f"-- The answer of {relay.url} broke off (")
    assert re.fullmatch(
        r"-- reconnected after \d+\.\d s, going on where it broke off --", notes[-1]
    )
    assert terminal.text.count("NO_SOCKET") == 1, "the past was asked for once"
    assert again.requests == [("/api/v1/flows", {"follow": ["true"]})]
    assert again.resumed in (["16"], ["17"])  # records, and then a sign of life


@pytest.mark.parametrize("fault", ["cut", "status"])
def test_a_relay_that_fails_while_following_is_tried_again(relay: FakeRelay, fault: str) -> None:
    relay.live = [record()]
    with Terminal(server=relay.url) as terminal:
        terminal.wait_for("open")
        setattr(relay, fault, True if fault == "cut" else 503)
        relay.hang_up.set()
        terminal.wait_for("Trying again. --")
        relay.hang_up.clear()
        relay.cut, relay.status, relay.live = False, 200, [CLOSE]
        terminal.wait_for("fin_source")
        terminal.wait_for("-- reconnected")


def test_a_quiet_tail_notices_a_closed_pipe(relay: FakeRelay) -> None:
    relay.live = [record()]
    with subprocess.Popen(
        [*FLOWS, "--server", relay.url], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 0


def test_ctrl_c_in_a_pipe(relay: FakeRelay) -> None:
    with subprocess.Popen(
        [*FLOWS, "--server", relay.url], env=ENV, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert "following" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
    assert process.returncode == 130
