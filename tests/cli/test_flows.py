"""The ``flows`` command as a user runs it: what it asks for, and what it shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flowobs.cli.options import GROUPS
from flowobs.cli.output import LINES_PER_S, lost_note
from relay.store import names
from tests.cli.fake_relay import FakeRelay, record
from tests.cli.terminal import ENV, FLOWS, Terminal, plain, run

LOST = record(kind="lost", lost=1204, node="node-3", drop_reason="ring_full")
NOTE = "-- 1,204 records lost on node-3 (ring_full) --"
CLOSE = record(
    kind="close",
    close_reason="fin_source",
    duration=12_000_000,
    packets=10,
    reply_packets=8,
    bytes=1200,
    reply_bytes=9000,
)
DROP = record(kind="drop", verdict="dropped", drop_reason="NO_SOCKET")


@pytest.fixture
def relay() -> Iterator[FakeRelay]:
    with FakeRelay() as relay:
        yield relay


def on_terminal(relay: FakeRelay, *args: str, columns: int = 120, **env: str) -> str:
    with Terminal(*args, server=relay.url, columns=columns, **env) as terminal:
        assert terminal.end() == 0
    return terminal.text


# In a pipe


def test_a_pipe_gets_a_line_of_json_for_each_record(relay: FakeRelay) -> None:
    relay.history = [record(), CLOSE]
    result = run("--last", "20", server=relay.url)
    assert [json.loads(line) for line in result.stdout.splitlines()] == [record(), CLOSE]
    assert (result.returncode, result.stderr) == (0, "")


def test_filters_and_selection_reach_the_relay(relay: FakeRelay) -> None:
    words = "list -n shop -n kube-* --pod web-0 --port 80 --port 443 --verdict dropped --kind drop"
    words += " --proto tcp --since 5m --until 1m"
    run(*words.split(), server=relay.url)
    assert relay.requests == [
        (
            "/api/v1/flows",
            {
                "namespace": ["shop", "kube-*"],
                "pod": ["web-0"],
                "port": ["80", "443"],
                "verdict": ["dropped"],
                "kind": ["drop"],
                "proto": ["tcp"],
                "since": ["5m"],
                "until": ["1m"],
            },
        )
    ]


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (["pod:shop/* and verdict:dropped", "--last", "3"], "pod:shop/* and verdict:dropped"),
        (["--last", "3", "port:443", "or", "web"], "port:443 or web"),
        (["list", "web"], "web"),
        (["tail", "lst", "--last", "1"], "lst"),
        (["--last", "1", '"list"'], '"list"'),
    ],
)
def test_a_question_is_an_argument(relay: FakeRelay, words: list[str], question: str) -> None:
    assert run(*words, server=relay.url).returncode == 0
    ((path, asked),) = relay.requests
    assert (path, asked["q"]) == ("/api/v1/flows", [question])


def test_what_is_wrong_with_a_question_is_pointed_at(relay: FakeRelay) -> None:
    relay.status, relay.error, relay.column = 400, "`kind` cannot be `opn`.", 15
    result = run("list", "port:443", "kind:opn", server=relay.url)
    assert result.stderr == (
        "Error: `kind` cannot be `opn`.\n  port:443 kind:opn\n                ^\n"
    )
    assert result.returncode == 2


def test_fields_are_chosen_in_the_order_asked_for(relay: FakeRelay) -> None:
    relay.history = [record()]
    result = run("list", "--fields", "dst_name,drop_reason,src_port", server=relay.url)
    assert result.stdout == '{"dst_name":"api-1","src_port":40312}\n'


def test_lost_records_are_json_on_stdout_and_a_note_on_stderr(relay: FakeRelay) -> None:
    relay.history = [LOST]
    result = run("list", server=relay.url)
    assert json.loads(result.stdout) == LOST
    assert result.stderr == NOTE + "\n"


def test_compact_in_a_pipe_has_full_times_no_colour_and_no_limit(relay: FakeRelay) -> None:
    relay.history = [record(src_name="n" * 100)] * (LINES_PER_S + 50)
    result = run("--last", "1000", "-o", "compact", server=relay.url)
    lines = result.stdout.splitlines()
    assert len(lines) == LINES_PER_S + 50
    assert lines[0].startswith("2026-11-22T10:22:01.123456789Z shop/nnn")
    assert lines[0].endswith(":40312 -> shop/api-1:8080 tcp open SYN")


def test_a_question_cut_short_by_the_default_limit_says_so(relay: FakeRelay) -> None:
    relay.history, relay.more = [record()] * 3, True
    lines = plain(on_terminal(relay, "--since", "5m"))
    assert lines[-1] == "-- these are the newest 3 records; --last or --until shows older ones --"
    assert relay.requests[-1][1]["last"] == ["10000"]
    assert "newest" not in on_terminal(relay, "--since", "5m", "--last", "100")
    assert run("--since", "5m", server=relay.url).stderr == ""
    assert "last" not in relay.requests[-1][1]
    run("--until", "5m", server=relay.url)
    assert relay.requests[-1][1]["last"] == ["100"]


def test_first_last_and_order_reach_the_relay(relay: FakeRelay) -> None:
    for words, wanted in (
        ("--first 5", {"first": ["5"]}),
        ("list --last 5 --newest-first", {"last": ["5"], "order": ["newest"]}),
        ("--last 5 --oldest-first", {"last": ["5"]}),
        ("--newest-first", {"last": ["100"], "order": ["newest"]}),
    ):
        run(*words.split(), server=relay.url)
        assert relay.requests[-1] == ("/api/v1/flows", wanted)


def test_what_the_store_no_longer_has_is_said(relay: FakeRelay) -> None:
    relay.note = "the store begins at 2026-11-22T10:00:00Z: there are no older records"
    result = run("--since", "7d", server=relay.url)
    assert result.stderr == f"-- {relay.note} --\n-- no record matches --\n"


def test_csv_and_arrow_are_passed_on(relay: FakeRelay) -> None:
    relay.exported = b"time,node\n1,n\n"
    result = run("--since", "7d", "-o", "csv", "--fields", "time,node", server=relay.url)
    assert result.stdout == "time,node\n1,n\n"
    assert relay.requests[-1][1] == {"since": ["7d"], "fields": ["time,node"]}
    assert run("list", "--first", "9", "-o", "arrow", server=relay.url).stdout == result.stdout
    relay.error, relay.status = "The store is not there.", 503
    assert run("list", "-o", "csv", server=relay.url).stderr == "Error: The store is not there.\n"


def test_an_export_that_breaks_off_is_no_success(relay: FakeRelay) -> None:
    relay.exported, relay.cut = b"time,node\n1,n\n", True
    result = run("list", "--since", "7d", "-o", "csv", server=relay.url)
    assert result.returncode == 1
    assert result.stdout.startswith("time,node\n1,n\n")
    assert "broke off (the connection was closed). What came is not all" in result.stderr


def test_an_answer_that_breaks_off_says_why(relay: FakeRelay) -> None:
    relay.history = [record()]
    relay.raw = b'{"error": "the query took too long"}\n'
    result = run("--since", "7d", server=relay.url)
    assert result.returncode == 1
    assert result.stderr == "Error: The answer broke off: the query took too long\n"


# On a terminal


def test_lines_are_aligned_and_times_are_local(relay: FakeRelay) -> None:
    relay.history = [record(src_name="web-with-a-long-name"), record(), CLOSE, DROP]
    lines = plain(on_terminal(relay, "--last", "20", columns=140, TZ="UTC-1"))
    lines = [line for line in lines if not line.startswith("--")]
    assert lines == [
        "11:22:01.123 shop/web-with-a-long-name:40312 -> shop/api-1:8080 tcp open SYN",
        "11:22:01.123 shop/web-0:40312                -> shop/api-1:8080 tcp open SYN",
        "11:22:01.123 shop/web-0:40312                -> shop/api-1:8080 tcp close "
        "fin_source 12 ms 10/8 pkts 1.2/9.0 kB",
        "11:22:01.123 shop/web-0:40312                -> shop/api-1:8080 tcp drop  "
        "NO_SOCKET (dropped)",
    ]


def test_another_day_is_said_once(relay: FakeRelay) -> None:
    relay.history = [record(time="2020-02-03T10:00:00.5Z"), record(time="2020-02-03T11:00:00.5Z")]
    lines = plain(on_terminal(relay, "list"))
    assert [line[:12] for line in lines] == ["-- Monday, 0", "10:00:00.500", "11:00:00.500"]


@pytest.mark.parametrize("columns", [40, 80, 119])
def test_compact_never_wraps(relay: FakeRelay, columns: int) -> None:
    relay.history = [record(src_name="a" * 300, dst_name="語" * 90), CLOSE, DROP]
    lines = plain(on_terminal(relay, "list", columns=columns))
    wide = [sum(2 if c == "語" else 1 for c in line) for line in lines if line[0] != "-"]
    assert len(wide) == 3
    assert max(wide) <= columns


def test_names_are_cut_in_the_middle(relay: FakeRelay) -> None:
    relay.history = [record(src_name="payment-service-7d9f8bcd54-xk2vp")]
    assert "shop/pay…54-xk2vp:40312 ->" in plain(on_terminal(relay, "list", columns=106))[-1]


def test_wide_shows_addresses_processes_and_where(relay: FakeRelay) -> None:
    relay.history = [record(src_process="curl", src_pid=1234)]
    line = plain(on_terminal(relay, "list", "-o", "wide", columns=60))[-1]
    assert line.endswith(
        "node-1 veth0 source      shop/web-0(10.88.0.10):40312 (curl/1234) -> "
        "shop/api-1(10.88.0.11):8080 tcp open SYN"
    )


def test_drops_are_red_unless_colour_is_refused(relay: FakeRelay) -> None:
    relay.history = [DROP]
    assert "\x1b[31mshop/web-0:40312 -> " in on_terminal(relay, "list")
    assert "\x1b" not in on_terminal(relay, "list", NO_COLOR="1")
    assert "\x1b" not in on_terminal(relay, "list", TERM="dumb")
    assert "\x1b" not in on_terminal(relay, "list", "--color", "never")
    assert "\x1b[31m" in on_terminal(relay, "list", "--color", "always", NO_COLOR="1")


def test_colour_can_be_forced_in_a_pipe(relay: FakeRelay) -> None:
    relay.history = [DROP]
    assert "\x1b" not in run("list", "-o", "compact", server=relay.url).stdout
    assert "\x1b[31m" in run("list", "-o", "compact", server=relay.url, FORCE_COLOR="1").stdout


def test_lost_records_are_said_inline(relay: FakeRelay) -> None:
    relay.history = [record(), LOST, record()]
    lines = plain(on_terminal(relay, "list"))
    assert lines[-2] == NOTE


def test_hostile_text_does_not_reach_the_terminal(relay: FakeRelay) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u202e\u200b[bold red]x[/]\udcff"
    relay.history = [
        {key: evil if isinstance(value, str) else value for key, value in record().items()},
        record(src_name=["list"], dst_name={"a": "\x1b[1m"}, src_port=evil, packets=-1, lost="x"),
        record(kind="lost", lost=evil, node=evil, drop_reason=evil),
        record(src_name="[bold]markup[/]", kind=None, proto=None, time=7),
    ]
    for args in ((), ("-o", "wide"), ("-o", "json"), ("--fields", "src_name,time,kind")):
        text = on_terminal(relay, "list", "--color", "never", *args)
        assert re.findall(r"[^\n\x20-\x7e…]", text) == []
    assert "[bold]markup[/]" in text


def test_the_rate_guard_hides_and_counts(relay: FakeRelay) -> None:
    relay.live = [record()] * (LINES_PER_S + 1050)
    with Terminal(server=relay.url) as terminal:
        terminal.wait_for("-- 1,050 records not shown: more than 200 a second --")
        assert terminal.text.count("shop/web-0") == LINES_PER_S
        assert terminal.interrupt() == 130


def test_looking_back_on_a_terminal_is_not_limited(relay: FakeRelay) -> None:
    relay.history = [record()] * (LINES_PER_S + 50)
    assert on_terminal(relay, "--last", "1000").count("shop/web-0") == LINES_PER_S + 50


def test_json_is_never_limited(relay: FakeRelay) -> None:
    relay.live = [record()] * (LINES_PER_S + 50) + [record(src_name="end")]
    with Terminal("-o", "json", server=relay.url) as terminal:
        assert terminal.wait_for('"src_name":"end"').count("\n{") >= LINES_PER_S + 50
        assert "not shown" not in terminal.text


# Help


@pytest.mark.parametrize("words", [[], ["list"], ["map"], ["status"], ["tail"]])
def test_help_has_headings(words: list[str]) -> None:
    text = run(*words, "-h").stdout
    assert "Output:" in text
    assert "..." not in text.partition("Question:")[0].partition("Commands:")[2]
    assert "Other options:" in text
    assert ("Selection:" in text) == (words != ["status"])


def test_help_imports_click_and_nothing_else() -> None:
    def imported(*command: str) -> set[str]:
        python = [sys.executable, "-X", "importtime", *command]
        result = subprocess.run(python, env=ENV, capture_output=True, text=True, check=True)
        return set(re.findall(r"\|\s+([\w.]+)$", result.stderr, re.MULTILINE))

    modules = imported("-m", "flowobs.cli.flows", "--help") - imported("-c", "pass")
    packages = {name.partition(".")[0] for name in modules} - {"org"}  # the copy module, for Jython
    assert packages - set(sys.stdlib_module_names) == {"click", "flowobs"}
    assert "urllib.request" not in modules


def test_completion_knows_commands_and_the_options_of_a_tail() -> None:
    def complete(words: str) -> str:
        env = {"_FLOWS_COMPLETE": "bash_complete", "COMP_WORDS": words}
        return run(**env, COMP_CWORD=str(words.count(" "))).stdout

    assert "plain,status" in complete("flows s")
    assert "plain,--last" in complete("flows --la")
    assert "plain,dropped" in complete("flows list --verdict d")
    assert complete("flows map --by na") == "plain,namespace\n"
    assert GROUPS == names.GROUPS


def test_the_locale_does_not_matter(relay: FakeRelay) -> None:
    relay.history = [record(src_name="é語")]
    env = os.environ | ENV | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    result = subprocess.run(
        [*FLOWS, "list", "-o", "compact", "--server", relay.url], env=env, capture_output=True
    )
    assert result.returncode == 0


def test_what_is_counted_by_a_loss_is_named() -> None:
    row = record(kind="lost", lost=1, node="node-3", drop_reason="map_full")
    assert lost_note(row) == "1 packet in no flow on node-3 (map_full)"
    row["drop_reason"] = "retransmits_full"
    assert lost_note(row) == "1 retransmit on no record on node-3 (retransmits_full)"


def test_what_is_not_shown_of_a_flow_seen_twice_is_said(relay: FakeRelay) -> None:
    day = "2020-02-03T10:00:00.5Z"  # said first; of today it would not be
    relay.history = [record(interface=link, time=day) for link in ("veth0", "br0")]
    shown = plain(on_terminal(relay, "--last", "2"))
    assert len(shown) == 3
    assert shown[-1] == (
        "-- 1 record of the same flows from other interfaces not shown; -o wide shows all --"
    )
    assert len(plain(on_terminal(relay, "--last", "2", "-o", "wide"))) == 3


def test_fields_are_listed() -> None:
    rows = [json.loads(line) for line in run("fields").stdout.splitlines()]
    kinds = next(row for row in rows if row["field"] == "kind")
    assert {"drop", "fail"} <= set(kinds["values"])
    shown = run("fields", "-o", "table").stdout.splitlines()
    assert shown[0].split() == ["FIELD", "UNIT", "MEANING"]
    assert len(shown) == len(rows) + 1
