"""kill -9 of a whole relay, at random moments, while three agents send.

FLOWOBS_TEST_KILLS sets how often (default 3; each takes some five seconds).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from flowobs.schema import Kind
from tests.flow_factory import new_table, random_batch
from tests.relay.process import Agent, wait_for

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("FLOWOBS_TEST_KILLS", "3"))


def relay(folder: Path, kind: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.relay.stretched_relay", str(folder / "window"), kind]
    command += ["--store", f"chdb://{folder}/store", "--http", "127.0.0.1:0"]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [*command, "--listen", f"unix://{folder}/sock"], stdout=log, stderr=log, cwd=ROOT
        )


def run_with_kills(folder: Path, kind: str, kills: int = KILLS) -> tuple[int, list[int]]:
    """Rows sent, and what :func:`counted` says after the kills."""
    agents = [Agent(f"unix:{folder}/sock", name) for name in ("a", "b", "c")]
    tables, sent, chance = [new_table() for _ in agents], 0, random.Random(1)
    process = relay(folder, kind)
    try:
        for kill in range(kills):
            wait_for(lambda: all(agent.forwarder.stats.connected for agent in agents))
            end = time.monotonic() + chance.uniform(0.6, 1.8)
            while time.monotonic() < end:
                for agent, table in zip(agents, tables, strict=True):
                    batch = random_batch(100, table, sent, kind=Kind.update)
                    batch.columns["src_cookie"][:] = sent + np.arange(100)
                    sent += 100
                    agent.put(batch)
                time.sleep(0.05)
            if kill % 2:  # by chance alone most kills would miss the window
                wait_for((folder / "window").exists)
            process.kill()
            process.wait()
            (folder / "window").unlink(missing_ok=True)
            wait_for(lambda: not any(agent.forwarder.stats.connected for agent in agents))
            process = relay(folder, kind)
        wait_for(lambda: not any(agent.forwarder.spool_records for agent in agents))
    finally:
        for agent in agents:
            agent.stop()
        process.terminate()
        process.wait(60)
    count = [sys.executable, "-m", "tests.relay.counted", f"chdb://{folder}/store"]
    said = subprocess.run(count, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    return sent, [int(n) for n in said.stdout.split()]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents come back at once: a kill while they stay away says nothing."""
    monkeypatch.setattr("flowobs.agent.forward._BACKOFF_MOST", 0.1)


@pytest.mark.slow
@pytest.mark.timeout(90 + 10 * KILLS)
def test_every_record_is_stored_once(tmp_path: Path, at_once: None) -> None:
    sent, counts = run_with_kills(tmp_path, "once")
    assert counts == [sent] * 4 + [2 * sent]  # each record has two ends of its own
    assert (tmp_path / "log").read_text().count("done again"), "no kill hit the window"


@pytest.mark.slow
@pytest.mark.timeout(90 + 10 * KILLS)
def test_the_kills_above_would_show_duplicates(tmp_path: Path, at_once: None) -> None:
    sent, (rows, distinct, *_) = run_with_kills(tmp_path, "twice", kills=2)
    assert distinct == sent
    assert rows > sent
