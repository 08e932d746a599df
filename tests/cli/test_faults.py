"""``flows`` when things go wrong: exit codes, one sentence each, nobody who reads."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.fake_relay import FakeRelay, record
from tests.cli.terminal import ENV, FLOWS, run


@pytest.fixture
def relay() -> Iterator[FakeRelay]:
    with FakeRelay() as relay:
        yield relay


def test_nobody_answers() -> None:
    result = run("list")
    assert result.returncode == 4
    assert result.stderr == (
        "Error: No relay answers at http://127.0.0.1:1 (Connection refused). "
        "Start one with 'flowobs up' or name another with --server.\n"
    )
    assert run().returncode == 4


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--lst", "3"], "No such option"),
        (["--server", "http://127.0.0.1:1", "status", "x"], "unexpected extra argument (x)"),
        (["lst"], "No such command 'lst'. Did you mean 'flows list'?"),
        (["lst"], "To look for the word, write: flows tail lst"),
        (["-n", "shop", "list"], "Write a command first: flows list"),
        (["list", "--last", "0"], "0 is not in the range"),
        (["list", "--port", "http"], "'http' is not a valid number"),
        (["list", "--fields", "src_nam"], "there is no field 'src_nam'. Did you mean src_name"),
        (["--server", "relay:8080"], "is no URL of a relay, write it like http://127.0.0.1:8080"),
        (["--server", "http://[::1"], "is no URL of a relay"),
        (["-f", "--until", "5m"], "--follow has no end"),
        (["-o", "csv"], "--output csv has an end: add --since, --last or --first"),
        (["-f", "--first", "5"], "leave out --first and --newest-first"),
        (["list", "--first", "5", "--last", "5"], "--first and --last exclude each other"),
        (["list", "-o", "csv", "--fail-empty"], "--fail-empty needs --output json"),
        (["--fail-empty"], "--fail-empty needs an end: add --last or --since."),
    ],
)
def test_usage_errors(args: list[str], sentence: str) -> None:
    result = run(*args)
    assert sentence in result.stderr
    assert result.returncode == 2


def test_a_command_may_stand_behind_the_relay() -> None:
    for server in (["--server", "http://127.0.0.1:1"], ["--server=http://127.0.0.1:1"]):
        assert run(*server, "status").stderr.startswith("Error: No relay answers at")


def test_an_option_of_a_tail_is_no_misspelt_command(relay: FakeRelay) -> None:
    relay.history = [record()]
    result = run("--fields", "src_name", "--last", "1", server=relay.url)
    assert (result.stdout, result.stderr) == ('{"src_name":"web-0"}\n', "")


def test_what_the_relay_refuses_is_a_usage_error(relay: FakeRelay) -> None:
    relay.status, relay.error = 400, "since: 'banana' is no time. Write 5m."
    result = run("--since", "banana", server=relay.url)
    assert result.stderr == "Error: since: 'banana' is no time. Write 5m.\n"
    assert result.returncode == 2


def test_nothing_matches(relay: FakeRelay) -> None:
    assert run("list", server=relay.url).returncode == 0
    result = run("list", "--fail-empty", server=relay.url)
    assert result.returncode == 3
    assert result.stderr == "Error: No record matches. Widen --since or drop a filter.\n"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"status": 503}, "The store is not there. Start it."),
        ({"status": 500, "error": None}, "answered 500 Internal Server Error. Is it a flowobs"),
        ({"raw": b"<html>\n"}, "sent a line that is no record. Is it a flowobs relay?"),
        ({"raw": b"[1]\n"}, "sent a line that is no record"),
        ({"raw": b"\xff\n"}, "sent a line that is no record"),
        ({"content_type": "text/html"}, "sent text/html. Is it a flowobs relay?"),
        ({"cut": True}, "broke off (the connection was closed). What came is not all: ask again."),
        ({"raw": b'{"time": 1'}, "broke off (in the middle of a record). What came is not all"),
    ],
)
def test_faults_of_the_server(relay: FakeRelay, fault: dict[str, object], sentence: str) -> None:
    for name, value in fault.items():
        setattr(relay, name, value)
    result = run("list", server=relay.url)
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.returncode == 1
    assert "Traceback" in run("list", "--debug", server=relay.url).stderr


def test_a_slow_relay_is_waited_for(relay: FakeRelay) -> None:
    relay.slow_s, relay.history = 1.5, [record()]
    assert run("list", server=relay.url).returncode == 0


def test_a_closed_pipe_is_silent(relay: FakeRelay) -> None:
    relay.history = [record()] * 20_000
    for args in (["--last", "20000"], ["-f", "--last", "20000"]):
        with subprocess.Popen(
            [*FLOWS, *args, "--server", relay.url],
            env=ENV,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout and process.stderr
            process.stdout.readline()
            process.stdout.close()
            error = process.stderr.read().decode().splitlines()
        assert [line for line in error if "following" not in line] == []
        assert process.returncode == 0


def test_a_full_disk_is_no_internal_error(relay: FakeRelay) -> None:
    relay.history = [record()]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*FLOWS, "list", "--server", relay.url],
            env=ENV,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "Error: The output could not be written: No space left on device.\n"


@pytest.mark.parametrize("words", [["list"], ["status"], []])
def test_a_closed_output_is_no_internal_error(relay: FakeRelay, words: list[str]) -> None:
    relay.history = relay.live = [record()]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *FLOWS, *words, "--server", relay.url],
        env=ENV,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: The output could not be written: Bad file descriptor."
    )


def test_loopback_is_reached_past_a_proxy(relay: FakeRelay) -> None:
    assert run("list", server=relay.url, http_proxy="http://127.0.0.1:1").returncode == 0


def test_other_servers_are_reached_by_the_proxy(relay: FakeRelay) -> None:
    result = run("list", server="http://relay.invalid:8080", http_proxy=relay.url)
    assert result.returncode == 0
    assert relay.requests
