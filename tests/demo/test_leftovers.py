from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flowobs.cli.errors import CliError
from flowobs.demo import leftovers, network, plan


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(leftovers, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(network, "leftover_namespaces", lambda: [])
    monkeypatch.setattr(network, "processes_inside", lambda names: [])
    return tmp_path / "record.json"


def test_nothing_is_left_of_a_killed_run(record: Path, tmp_path: Path) -> None:
    folder = tmp_path / f"{plan.PREFIX}abc"
    folder.mkdir()
    with subprocess.Popen(["sleep", "60"]) as process:
        leftovers.note(folder, [process.pid])

        assert leftovers.clean()
        assert process.wait() == -9
    assert not folder.exists()
    assert not record.exists()
    assert not leftovers.clean()


def test_a_process_that_only_has_the_same_pid_is_spared(record: Path, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        leftovers.note(tmp_path, [process.pid])
        started = leftovers.start_time(process.pid)
        record.write_text(record.read_text().replace(str(started), "1"))

        leftovers.clean()
        assert process.poll() is None
        process.kill()


def test_a_folder_that_is_not_the_demos_is_spared(record: Path, tmp_path: Path) -> None:
    leftovers.note(tmp_path, [])
    leftovers.clean()

    assert tmp_path.exists()


@pytest.mark.parametrize("text", ["", "{", '{"folder": 3}', '{"folder": "/x", "processes": 1}'])
def test_a_damaged_record_is_no_record(record: Path, text: str) -> None:
    record.write_text(text)

    assert not leftovers.clean()
    assert not record.exists()


def test_one_demo_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "LOCK", f"\0flowobs-test-{os.getpid()}")
    with leftovers.lock(), pytest.raises(CliError, match="runs already"):
        leftovers.lock()
    leftovers.lock().close()


def test_a_zombie_is_gone() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert leftovers.start_time(process.pid) is None
    process.wait()
