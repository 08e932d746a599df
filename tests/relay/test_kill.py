"""kill -9 between insert and ack: a resend must change nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUPS, ROWS, KILLS = 12, 100, 5


def run_with_kills(folder: Path, kind: str) -> list[int]:
    """What :func:`counted` says after KILLS kills, each just after an insert."""
    acks = folder / "acks"
    acks.touch()
    url = f"chdb://{folder}/store"
    writer = "tests.relay.kill_writer"
    command = [sys.executable, "-m", writer, url, str(acks), str(GROUPS), kind]
    for _ in range(KILLS):
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
            assert process.stdin is not None and process.stdout is not None
            first = process.stdout.readline()
            process.stdin.write("\n")
            process.stdin.flush()
            second = process.stdout.readline()
            process.kill()
            assert first.startswith("stored"), first
            assert second.startswith("stored"), second
    last = subprocess.run(
        command, input="", capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert len(acks.read_text().splitlines()) == GROUPS
    return [int(n) for n in last.stdout.splitlines()[-1].split()]


@pytest.mark.slow
def test_a_group_stored_but_not_acknowledged_is_not_stored_twice(tmp_path):
    sent = GROUPS * ROWS
    assert run_with_kills(tmp_path, "stable") == [sent] * 4 + [2 * sent]


@pytest.mark.slow
def test_the_kills_above_would_show_duplicates_if_tokens_were_random(tmp_path):
    sent, twice = GROUPS * ROWS, (GROUPS + KILLS) * ROWS
    assert run_with_kills(tmp_path, "random") == [twice, sent, twice, twice, 2 * sent]
