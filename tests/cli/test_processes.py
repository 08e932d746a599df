from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flowobs.cli.errors import CliError
from flowobs.cli.processes import Processes

SLEEPER = ["sleep", "60"]
STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; sleep 60 & wait; wait"]


def is_running(pid: int) -> bool:
    """A zombie that nobody has waited for yet has ended, too."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_children_end_with_the_block(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("one", SLEEPER)
        processes.start("two", SLEEPER)
        pids = processes.pids()
        assert all(map(is_running, pids))
        processes.check()
    assert not any(map(is_running, pids))
    assert processes.pids() == []


def test_the_last_started_ends_first(tmp_path: Path) -> None:
    script = f"trap 'echo $0 >> {tmp_path}/order; exit' TERM; echo up; while :; do sleep 0.02; done"
    with Processes(tmp_path) as processes:
        for name in ("relay", "agent"):
            processes.start(name, ["sh", "-c", script, name])
            wait_for(processes.log(name).read_text)
    assert (tmp_path / "order").read_text().split() == ["agent", "relay"]


def test_the_usage_of_a_child_is_left_out(tmp_path: Path) -> None:
    said = "Usage: flowobs agent\nTry 'flowobs agent --help' for help.\n\nError: bad file\n"
    with Processes(tmp_path) as processes:
        processes.start("agent", ["printf", said])
        with pytest.raises(CliError) as caught:
            wait_for(processes.check)
    assert caught.value.message.splitlines()[1:] == ["  Error: bad file"]


def test_a_child_that_ends_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("relay", ["sh", "-c", "seq 20; printf 'no \\033[2Jdisk' >&2; exit 3"])
        with pytest.raises(CliError) as caught:
            wait_for(processes.check)
    first, *lines = caught.value.message.splitlines()
    assert first == "The relay has ended with exit code 3. Its last lines:"
    assert lines == [f"  {n}" for n in range(12, 21)] + ["  no \\x1b[2Jdisk"]


def test_a_child_that_was_killed_is_reported(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("agent", SLEEPER)
        os.kill(processes.pids()[0], signal.SIGKILL)
        with pytest.raises(CliError, match=r"The agent was ended by signal SIGKILL\."):
            wait_for(processes.check)


def test_who_does_not_heed_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("stubborn", STUBBORN)
    processes.start("stubborn too", STUBBORN)
    wait_for(processes.log("stubborn too").read_text)
    pids = processes.pids()
    groups = [
        int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _group(p) in pids
    ]
    assert len(groups) == 4
    started = time.monotonic()
    processes.stop(grace_s=0.5)
    assert 0.4 < time.monotonic() - started < 30  # the sleepers' 60 s
    wait_for(lambda: not any(map(is_running, groups)))


def _group(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(") ")[2].split()[2])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_children_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from flowobs.cli.processes import Processes\n"
        "p = Processes(Path(sys.argv[1])); p.start('x', ['sleep', '60'])\n"
        "print(p.pids()[0], flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    wait_for(lambda: not is_running(pid))
