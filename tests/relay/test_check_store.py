from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relay.store.check import TableState, _problems
from relay.store.migrations import VERSION
from tests.relay.flows import flows
from tests.relay.process import Agent, running


def check(folder: Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "relay.cli", "check-store", "--store", f"chdb://{folder}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_healthy_store(tmp_path: Path) -> None:
    with running(tmp_path) as relay:
        agent = Agent(relay.agents)
        agent.store(flows(1234))
        agent.stop()
        code, _, error = check(tmp_path / "store")
        assert code == 1 and "in use by another process" in error
    code, out, error = check(tmp_path / "store")
    assert (code, error) == (0, "")
    assert f"chdb://{tmp_path}/store" in out
    assert f"version  {VERSION} (this relay: {VERSION})" in out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert lines["flows"][1] == "1,234"
    assert lines["flows_1m"][1] == lines["flows_1h"][1] == "1"
    assert out.endswith("healthy\n")


EMPTY = """
import os, sys
from relay.store import Store
from tests.relay.flows import flows
store = Store.open(sys.argv[1])
for number in range(2):
    store.insert([flows(100, dst_port=number)], f"{number}")
delete = "ALTER TABLE flows DELETE WHERE dst_port = 0 SETTINGS mutations_sync = 1"
store._writer.command(delete)
os._exit(0)
"""


def test_a_part_without_rows_has_no_time(tmp_path: Path) -> None:
    """As dropped ones leave behind for a while."""
    folder = tmp_path / "store"
    subprocess.run([sys.executable, "-c", EMPTY, f"chdb://{folder}"], check=True, timeout=60)
    code, out, _ = check(folder)
    assert code == 0
    assert "1970" not in out
    (records,) = [line.split() for line in out.splitlines() if line.startswith("flows ")]
    assert (records[1], records[3]) == ("100", "1")


def test_no_store(tmp_path: Path) -> None:
    code, out, error = check(tmp_path / "none")
    assert (code, out) == (1, "")
    assert "there is no store in" in error
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    code, out, _ = check(tmp_path / "empty")
    assert code == 1
    assert "there is no table of flowobs" in out


@pytest.mark.parametrize(
    ("version", "table", "said"),
    [
        (VERSION - 1, (0, 1), "is older than this relay"),
        (VERSION + 1, (0, 1), "made by a newer flowobs"),
        (VERSION, (0, 1), "tables are missing (flows_1m, flows_1h, flows_ends)"),
        (VERSION, (2, 1), "has 2 broken parts"),
        (VERSION, (0, 1000), "merges lag"),
    ],
)
def test_problems(version: int, table: tuple[int, int], said: str) -> None:
    broken, parts = table
    problems = _problems(version, (TableState("flows", broken, 5, 5, parts, 1, 2),))
    assert any(said in problem for problem in problems)
