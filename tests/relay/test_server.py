"""The relay process: start, refusals, signals, idle cost, metrics, TLS."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.config import Address, Config, ConfigError, state_folder
from tests.busy import within
from tests.relay.flows import flows, table
from tests.relay.process import Agent, RelayProcess, running, wait_for

RELAY = (sys.executable, "-m", "relay.cli")


def troubles(log: str) -> list[str]:
    """Lines that are more than information, tracebacks included."""
    return [line for line in log.splitlines() if not re.match(r"\S+Z INFO |relay ready: ", line)]


def refused(*arguments: str, code: int = 1) -> str:
    """The one sentence with which the relay refuses to start."""
    done = subprocess.run([*RELAY, *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("flowobs-relay: "), done.stderr
    return lines[0]


def test_http_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        store = f"chdb://{tmp_path}/s"
        sentence = refused("--http", address, "--listen", "127.0.0.1:0", "--store", store)
        assert f"{address} is in use; stop what listens there" in sentence and "--http" in sentence
        sentence = refused("--listen", address, "--http", "127.0.0.1:0", "--store", store)
        assert f"{address} is in use" in sentence and "--listen" in sentence


def test_unix_socket_in_use_and_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "relay.sock"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        sentence = refused(
            "--listen", f"unix://{path}", "--http", "127.0.0.1:0", "--store", f"chdb://{tmp_path}/s"
        )
        assert "is in use" in sentence
    with running(tmp_path, "--listen", f"unix://{path}") as relay:
        agent = Agent(f"unix:{path}")
        agent.store(flows(3))
        agent.stop()
        assert relay.agents == f"unix://{path}"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--http", "8080"], 2, "`8080` is not an address; write `127.0.0.1:4243`"),
        (["--listen", "unix://x"], 2, "`unix://x` is not a socket path"),
        (["--http", "unix:///x"], 2, "--http needs a host and a port"),
        (["--http", "0.0.0.0:0"], 2, "0.0.0.0:0 can be reached from other hosts; give --tls-cert"),
        (["--listen", "[::]:0"], 2, "[::]:0 can be reached from other hosts"),
        (["--tls-cert", "/x"], 2, "TLS needs both --tls-cert and --tls-key"),
        (["--store", "mysql://x"], 2, "the store's URL must be chdb:///absolute/folder or"),
        (["--store", "chdb:///proc/x"], 1, "the folder of the store /proc/x cannot be used"),
        (["--store", "http://127.0.0.1:1/x"], 1, "does not answer: check that it runs"),
        (["--retention", "soon"], 2, "is not a length of time: write it like 3d"),
    ],
)
def test_what_cannot_work_gets_one_sentence(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    defaults = {"--http": "127.0.0.1:0", "--listen": "127.0.0.1:0", "--store": f"chdb://{tmp_path}"}
    given = [x for k, v in defaults.items() if k not in arguments for x in (k, v)]
    assert sentence in refused(*given, *arguments, code=code)


def test_usage() -> None:
    assert CliRunner().invoke(main, ["--version"]).output.startswith("flowobs-relay, version")
    assert CliRunner().invoke(main, ["dance"]).exit_code == 2
    assert "--retention" in CliRunner().invoke(main, ["--help"]).output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, relay.cli\n"
        "heavy = {'fastapi', 'grpc', 'chdb', 'clickhouse_connect', 'uvicorn', 'numpy'}\n"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "set()", done.stderr


def test_without_the_extra_it_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None; sys.modules['clickhouse_connect'] = None\n"
        "from relay.cli import main; main(['--store', 'chdb:///tmp/none'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("run: pip install 'flowobs[relay]'"), done.stderr


def test_addresses() -> None:
    assert str(Address.parse("[::1]:80")) == "[::1]:80" and Address.parse("[::1]:80").local
    assert Address.parse("localhost:80").local and Address.parse("unix:///x").local
    assert not Address.parse("example.org:80").local
    Config("chdb:///x", http=Address("0.0.0.0", 80), insecure=True).check()
    with pytest.raises(ConfigError):
        Config("chdb:///x", listen=()).check()


def test_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_folder({"STATE_DIRECTORY": "/a:/b"}) == Path("/a")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_folder({}) == Path("/var/lib/flowobs")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state_folder({"XDG_STATE_HOME": "/s"}) == Path("/s/flowobs")
    assert state_folder({}) == Path.home() / ".local/state/flowobs"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_within_three_seconds_under_load(tmp_path: Path, number: signal.Signals) -> None:
    """With an agent and live streams open."""
    with running(tmp_path) as relay:
        agent = Agent(relay.agents)
        agent.store(flows(20_000))
        ends: list[str] = []
        readers = [threading.Thread(target=_follow, args=(relay, ends)) for _ in range(3)]
        for reader in readers:
            reader.start()
        wait_for(lambda: _subscribers(relay) == 3)
        agent.put(flows(10))
        with within(3):
            relay.process.send_signal(number)
            assert relay.process.wait(60) == 0
        for reader in readers:
            reader.join(60)
        agent.stop()
        assert ends == ["ended"] * 3  # the streams ended well, they were not cut
        assert "Traceback" not in relay.log.read_text()


@pytest.mark.parametrize("work", ["session.query(endless, {})", "time.sleep(30)"])
def test_stops_within_three_seconds_during_an_endless_query(tmp_path: Path, work: str) -> None:
    """In the engine, which is told to end it, and in Python, which nobody can tell."""
    code = (
        "import time\n"
        "import relay.http.stored\n"
        "endless = 'SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1'\n"
        f"relay.http.stored.nearest = lambda session, **_: {work}\n"
        "from relay.cli import main\n"
        f"main(['--store', 'chdb://{tmp_path}/s', '--http', '127.0.0.1:0', '--listen', "
        f"'unix://{tmp_path}/sock'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[2]
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.get(f"{url}/api/v1/flows", timeout=20, trust_env=False))

    with pytest.raises(httpx.ReadTimeout):  # a client that leaves is nothing to tell
        httpx.get(f"{url}/api/v1/flows", timeout=0.5, trust_env=False)
    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(1)
    with within(3):
        process.terminate()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert troubles(stderr) == []
    asking.join(60)
    assert answers[0].status_code == 503
    assert "the relay is shutting down" in answers[0].json()["error"]


@pytest.mark.parametrize("format", ["ndjson", "csv"])
def test_stops_within_three_seconds_while_somebody_reads_a_long_answer(
    tmp_path: Path, format: str
) -> None:
    relay = RelayProcess(tmp_path)
    agent = Agent(relay.agents)
    endpoints = table()
    for _ in range(6):
        agent.store(flows(10_000, endpoints))
    agent.stop()
    url = f"/api/v1/flows?since=1h&format={format}"
    with relay.client() as client, client.stream("GET", url) as answer:
        parts = answer.iter_raw()
        next(parts)  # and no more: the relay waits for its reader
        time.sleep(0.5)
        with within(3):
            relay.stop()
        with pytest.raises(httpx.HTTPError):
            for _ in parts:
                pass
    (line,) = troubles(relay.log.read_text())
    assert "an answer broke off: the relay is shutting down" in line


def test_an_answer_that_cannot_go_on_is_a_line_in_the_log(tmp_path: Path) -> None:
    """Its second page would hold more records of one time than an answer may."""
    with running(tmp_path) as relay:
        agent = Agent(relay.agents)
        agent.store(flows(10_000))
        agent.store(flows(26_000, time=time.time_ns()))
        agent.stop()
        url = "/api/v1/flows?since=1h&format=ndjson"
        with relay.client() as client, pytest.raises(httpx.RemoteProtocolError):
            client.get(url)
        (line,) = troubles(relay.log.read_text())
    assert "an answer broke off: more than 20,000 records have one time" in line


def test_a_reader_that_leaves_a_long_answer_frees_its_query(tmp_path: Path) -> None:
    program = [str(Path(__file__).with_name("runaway_relay.py"))]
    relay = RelayProcess(tmp_path, program=program)
    try:
        for _ in range(8):  # twice as many as may run
            with pytest.raises(httpx.ReadTimeout):
                url = f"{relay.url}/api/v1/flows?q=port:9001&since=1h&format=ndjson"
                httpx.get(url, timeout=0.3, trust_env=False)
        with within(5), relay.client() as client:
            assert client.get("/api/v1/flows").status_code == 200
    finally:
        relay.stop()


def _follow(relay: RelayProcess, ends: list[str]) -> None:
    with relay.client() as client, client.stream("GET", "/api/v1/flows?follow=true") as answer:
        for _ in answer.iter_lines():
            pass
        ends.append("ended")


def _subscribers(relay: RelayProcess) -> int:
    with relay.client() as client:
        count: int = client.get("/api/v1/status").json()["live"]["subscribers"]
        return count


def test_a_dead_committer_ends_the_process(tmp_path: Path) -> None:
    """What must never happen: a bug in the committer's thread."""
    code = (
        "import relay.committer\n"
        "def bug(self, groups): raise RuntimeError('a bug')\n"
        "relay.committer.CombiningCommitter._commit = bug\n"
        "from relay.cli import main\n"
        f"main(['--store', 'chdb://{tmp_path}/s', '--http', '127.0.0.1:0', '--listen', "
        f"'unix://{tmp_path}/sock'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline().startswith("relay ready")
    agent = Agent(f"unix:{tmp_path}/sock")
    agent.put(flows(1))
    _, stderr = process.communicate(timeout=60)
    agent.stop()
    assert process.returncode == 1
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("flowobs-relay: storing records failed") and "(a bug)" in last


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    with running(tmp_path_factory.mktemp("relay")) as relay:
        agent = Agent(relay.agents, "node-7")
        agent.store(flows(5))
        yield relay
        agent.stop()


def test_status_and_health(relay: RelayProcess) -> None:
    with relay.client() as client:
        assert client.head("/healthz").status_code == 200
        health = client.get("/healthz")
        assert (health.status_code, health.text) == (200, "ok\n")
        time.sleep(1.1)  # the store's figures are kept for a second
        status = client.get("/api/v1/status").json()
    assert status["store"]["healthy"] is True and status["store"]["error"] is None
    assert status["store"]["rows"] == 5 and status["store"]["bytes"] > 0
    assert status["store"]["oldest"] <= status["store"]["newest"]
    assert status["store"]["engine"].startswith("ClickHouse ")
    assert status["live"]["buffered"] == 5
    (agent,) = status["agents"]
    assert (agent["agent"], agent["connected"], agent["rows"]) == ("node-7", True, 5)
    assert status["lost"] == {"subscriber_slow": 0}


def test_metrics_pass_promtool(relay: RelayProcess) -> None:
    with relay.client() as client:
        page = client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    assert "flowobs_relay_records_received_total 5.0" in page.text
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=page.text, capture_output=True, text=True
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


@pytest.mark.slow
def test_idle_cost(relay: RelayProcess) -> None:
    """With an agent and a live stream that have nothing to say: below 1 % of a core.

    The best of a few windows: on a machine that others use, too, a window may hold their noise.
    """
    with relay.client() as client, client.stream("GET", "/api/v1/flows?follow=true"):
        time.sleep(2)
        shares = []
        while len(shares) < 4 and (not shares or min(shares) >= 0.01):
            before, begin = relay.cpu_s(), time.monotonic()
            time.sleep(6)
            shares.append((relay.cpu_s() - before) / (time.monotonic() - begin))
    assert min(shares) < 0.01


def test_tls(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
        f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {cert}".split(),
        check=True,
        capture_output=True,
    )
    tls = ("--tls-cert", str(cert), "--tls-key", str(key))
    with running(tmp_path, *tls, "--http", "0.0.0.0:0") as relay:
        url = relay.url.replace("0.0.0.0", "127.0.0.1")
        assert url.startswith("https://")
        trust = ssl.create_default_context(cafile=cert)
        assert httpx.get(f"{url}/healthz", verify=trust, trust_env=False).text == "ok\n"
    swapped = ("--tls-cert", str(key), "--tls-key", str(cert))
    sentence = refused(*swapped, "--store", f"chdb://{tmp_path}/s", "--http", "127.0.0.1:0", code=2)
    assert "give a PEM certificate and its own unencrypted key" in sentence
