"""A ClickHouse server as the store: the protocol over real HTTP, the engine behind a front of ours.

With FLOWOBS_TEST_CLICKHOUSE_URL (such as http://user:password@host:8123, without a database: tests
make one and drop it) everything runs against that server, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.traffic import Traffic
from relay.store import Store, StoreError
from tests.busy import within
from tests.flow_factory import new_table, random_batch
from tests.relay.flows import flows
from tests.relay.process import Agent, running, wait_for

SHIM = Path(__file__).with_name("clickhouse_shim.py")
REAL_SERVER = os.environ.get("FLOWOBS_TEST_CLICKHOUSE_URL", "").rstrip("/")
DATABASE = f"flowobs_test_{os.getpid()}"
NO_SERVER = "FLOWOBS_TEST_CLICKHOUSE_URL names no server"
QUESTIONS = (
    "flows?first=300",
    "flows?last=100&q=verdict:dropped or rtt>1ms",
    "flows?last=500&format=csv",
    "flows?last=200&format=arrow&fields=time,src_name,bytes",
    "service-map?group=pod",
    "service-map?group=workload&q=ns:ns-3",
    "timeseries?by=source&group=workload&measure=rtt_p95_ms",
    "top?by=edge&group=pod&measure=bytes",
    "diff?before=1h",
    "hints?q=ns:ns-1 pod:",
)


class Front:
    """The front in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._command = [sys.executable, str(SHIM), str(folder / "data"), str(folder / "port")]
        self._port = folder / "port"
        self.start()
        self.url = f"http://default:secret@127.0.0.1:{self._port.read_text()}"

    def start(self) -> None:
        """Start; again on the same port."""
        again = [self._port.read_text()] if self._port.exists() else []
        self._port.unlink(missing_ok=True)
        self._process = subprocess.Popen([*self._command, *again])
        wait_for(lambda: self._port.exists() or self._process.poll() is not None)
        assert self._process.poll() is None, "the front ended"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture(
    scope="module",
    params=[
        "shim",
        pytest.param("real", marks=pytest.mark.skipif(not REAL_SERVER, reason=NO_SERVER)),
    ],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server's URL without a database."""
    if request.param == "real":
        yield REAL_SERVER
        admin = Store.open(f"{REAL_SERVER}/{DATABASE}")
        admin._writer.command(f"DROP DATABASE {DATABASE}")
        admin.close()
        return
    front = Front(tmp_path_factory.mktemp("server"))
    yield front.url
    front.stop()


def test_the_same_store_over_http(server):
    remote = Store.open(f"{server}/{DATABASE}")
    try:
        assert remote.url == re.sub("//.*@", "//", f"{server}/{DATABASE}")
        batch = random_batch(500, new_table())
        for _ in range(2):
            remote.insert([batch], "a/1/1")
        stats = remote.stats()
        assert stats.rows == 500
        assert (stats.oldest, stats.newest) == (
            batch.columns["time"].min(),
            batch.columns["time"].max(),
        )
        reader = remote.reader()
        found = reader.query(
            "SELECT src_ip, bytes FROM flows WHERE bytes = {b:UInt64}",
            {"b": int(batch.columns["bytes"][3])},
        )
        assert found["src_ip"] == [batch.columns["src_ip"][3].tobytes()]
        assert sum(t.rows for t in reader.stream("SELECT * FROM flows")) == 500
        assert reader.raw("SELECT count() FROM flows", "CSV") == b"500\n"
        newest = reader.query("SELECT time FROM flows ORDER BY time DESC LIMIT 9 WITH TIES")
        assert newest["time"][0] == stats.newest
        assert remote.sweep() == 0 and remote.begin is not None
        minutes = reader.query("SELECT sum(records) AS n FROM flows_1m")["n"]
        assert minutes == reader.query("SELECT count() AS n FROM flows WHERE kind != 8")["n"]
        with pytest.raises(StoreError, match=r"(?i)readonly"):
            reader.query("DROP TABLE flows")
    finally:
        remote.close()


def test_a_wrong_password_is_said_plainly(server):
    with pytest.raises(StoreError, match="refuses the user or password"):
        Store.open(re.sub("//.*@", "//wrong:secret@", f"{server}/{DATABASE}"))


def test_closing_stops_queries_on_a_server_too(server):
    remote = Store.open(f"{server}/{DATABASE}")
    reader, said = remote.reader(), []

    def run() -> None:
        try:
            reader.query("SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1")
        except StoreError as error:
            said.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.5)
    with within(3):
        remote.close()
        thread.join(60)
    assert "shutting down" in said[0]


@pytest.mark.slow
def test_a_server_answers_as_the_embedded_store_does(server: str, tmp_path: Path) -> None:
    """The same records, sent to a relay with each: every face says the same of them."""
    now = time.time_ns()
    begin = (now // 60_000_000_000 - 9) * 60_000_000_000
    until = begin + 8 * 60_000_000_000
    window = "since={}&until={}".format(
        *(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at // 10**9)) for at in (begin, until))
    )
    batch = Traffic(pods=40, edges=60).batch(2000, begin, 7 * 60_000_000_000)
    said: list[dict[str, Any]] = []
    homes = {"embedded": "", "server": f"{server}/{DATABASE}_whole"}
    for name, url in homes.items():
        folder = tmp_path / name
        folder.mkdir()
        with running(folder, *(("--store", url) if url else ())) as relay:
            agent = Agent(relay.agents)
            agent.store(batch)
            agent.stop()
            with relay.client() as client:
                answers = {q: client.get(f"/api/v1/{q}&{window}") for q in QUESTIONS}
                status = client.get("/api/v1/status").json()["store"]
        assert {q: a.text for q, a in answers.items() if a.status_code != 200} == {}
        assert (status["rows"], status["error"]) == (2000, None)
        assert "secret" not in str(status)
        said.append({q: a.text for q, a in answers.items()})
    assert said[0] == said[1]
    assert all(len(text) > 200 for text in said[0].values())


@pytest.mark.slow
def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    front = Front(tmp_path)
    with running(tmp_path, "--store", f"{front.url}/away") as relay:
        agent = Agent(relay.agents)

        def status() -> Any:
            with relay.client() as client:
                return client.get("/api/v1/status").json()["store"]

        agent.store(flows(100))
        front.stop()
        agent.put(flows(100))
        error = wait_for(lambda: status()["error"])
        assert "does not answer: check that it runs" in error
        assert agent.forwarder.spool_records == 100
        front.start()
        wait_for(lambda: agent.forwarder.spool_records == 0)
        wait_for(lambda: (status()["rows"], status()["error"]) == (200, None))
        agent.stop()
    front.stop()
