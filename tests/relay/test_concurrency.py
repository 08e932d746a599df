"""Twenty readers with mixed questions beside an ingest of 20,000 records a second.

How long an answer takes depends on who else uses the machine: that is printed. What is asserted
holds on a busy machine, too.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from bench.traffic import Traffic
from tests.busy import within
from tests.relay.process import Agent, RelayProcess, wait_for

ROWS_PER_S = 20_000
AGENTS = 4
SECONDS = 36
RUNAWAYS_AT = 24
READERS = 20
PAUSE_S = 8.0
"""Between an answer and the next question: a person, or a page that polls."""
MOST_MB = 700
MOST_LAG_S = 30
MOST_STILL = 10
"""Seconds within which records must have been stored."""
RUNAWAY_MB = 400
"""What a query that takes all it can may add."""
QUESTIONS: dict[str, str] = {
    "last 100": "/api/v1/flows?last=100",
    "absent": "/api/v1/flows?q=pod:nobody/at-all and kind:open&last=100",
    "map": "/api/v1/service-map?since=15m",
    "history": "/api/v1/flows?since=20s&format=ndjson&q=verdict:dropped",
    "export": "/api/v1/flows?last=50000&format=csv",
    "hints": "/api/v1/hints?q=ns:ns-1 pod:",
}
STEP_S = 0.05


class Ingest:
    """Agents that send as much as they should until ``stop``."""

    def __init__(self, relay: RelayProcess) -> None:
        self.agents = [Agent(relay.agents, f"node-{i}") for i in range(AGENTS)]
        self.sent = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def stored(self) -> int:
        return sum(agent.forwarder.stats.stored_records for agent in self.agents)

    def _run(self) -> None:
        traffic = [Traffic() for _ in self.agents]
        rows = int(ROWS_PER_S * STEP_S / AGENTS)
        begin, steps = time.monotonic(), 0
        while not self._stopping.is_set():
            for agent, source in zip(self.agents, traffic, strict=True):
                agent.put(source.batch(rows, time.time_ns(), int(STEP_S * 1e9)))
                self.sent += rows
            steps += 1
            time.sleep(max(0.0, begin + steps * STEP_S - time.monotonic()))

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def end(self) -> None:
        for agent in self.agents:
            agent.stop()


class Reader(threading.Thread):
    """Asks one question after the other until told to stop."""

    def __init__(self, relay: RelayProcess, number: int, stop: threading.Event) -> None:
        super().__init__()
        self.took: list[tuple[str, float]] = []
        self.errors: list[str] = []
        self._relay, self._number, self._stop_asking = relay, number, stop

    def run(self) -> None:
        names = list(QUESTIONS)
        self._stop_asking.wait(self._number * PAUSE_S / READERS)
        with httpx.Client(base_url=self._relay.url, timeout=180, trust_env=False) as client:
            while not self._stop_asking.is_set():
                name = names[(self._number + len(self.took)) % len(names)]
                begin = time.monotonic()
                answer = client.get(QUESTIONS[name])
                self.took.append((name, time.monotonic() - begin))
                if answer.status_code != 200:
                    self.errors.append(f"{name}: {answer.text}")
                self._stop_asking.wait(PAUSE_S)


def runaways(relay: RelayProcess, said: dict[str, Any]) -> None:
    with httpx.Client(base_url=relay.url, timeout=180, trust_env=False) as client:
        for port in (9001, 9002):
            answer = client.get(f"/api/v1/flows?q=port:{port}")
            said[f"port:{port}"] = (answer.status_code, answer.json().get("error"))


@pytest.mark.timeout(400)  # each of its waits ends sooner
def test_readers_neither_fail_nor_stop_the_ingest(tmp_path: Path) -> None:
    program = [str(Path(__file__).with_name("runaway_relay.py"))]
    relay = RelayProcess(tmp_path, program=program)
    ingest = Ingest(relay)
    stop = threading.Event()
    readers = [Reader(relay, i, stop) for i in range(READERS)]
    said: dict[str, Any] = {}
    lags, stored = list[float](), [0]
    try:
        wait_for(lambda: ingest.stored > 2 * ROWS_PER_S, 120)
        for reader in readers:
            reader.start()
        bad = threading.Thread(target=runaways, args=(relay, said))
        with httpx.Client(base_url=relay.url, timeout=180, trust_env=False) as client:
            for second in range(0, SECONDS, 2):
                if second == RUNAWAYS_AT:
                    normal = relay.peak_mb()
                    bad.start()
                time.sleep(2)
                lags.append(client.get("/api/v1/status").json()["store"]["lag_s"])
                stored.append(ingest.stored)
        stop.set()
        for thread in (*readers, bad):
            thread.join(180)
        ingest.stop()
        wait_for(lambda: ingest.stored == ingest.sent, 120)  # none is lost
        peak = relay.peak_mb()
    finally:
        stop.set()
        ingest.stop()
        ingest.end()
        with within(3):
            relay.stop()
    took = [t for reader in readers for t in reader.took]
    for name in QUESTIONS:
        times = np.array([s for n, s in took if n == name])
        p50, p99 = np.percentile(times, (50, 99))
        print(f"{name:10} {len(times):5} answers  p50 {p50:.2f} s  p99 {p99:.2f} s")
    print(f"runaways: {said}")
    print(f"stored {ingest.stored:,}, lag at most {max(lags)} s")
    print(f"peak {normal:.0f} MB, {peak:.0f} MB with runaways")
    assert [error for reader in readers for error in reader.errors] == []
    assert said["port:9001"] == (503, "the query took too long: ask for a shorter time range")
    assert said["port:9002"] == (
        503,
        "the query needs too much memory: ask for a shorter time range",
    )
    assert all(np.diff(stored[:: MOST_STILL // 2]) > 0), f"the ingest stood still: {stored}"
    assert max(lags) < MOST_LAG_S
    assert normal < MOST_MB
    assert peak < MOST_MB + RUNAWAY_MB
