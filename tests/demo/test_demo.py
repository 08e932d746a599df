"""The demo for real: it says what it saw, and nothing of it stays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flowobs.agent import features
from flowobs.demo import leftovers, network, plan

pytestmark = [
    pytest.mark.root,
    pytest.mark.bpf,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root"),
]

DEMO = [sys.executable, "-P", "-m", "flowobs.cli.flowobs", "demo"]
GONE_S = 30.0


def mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {place for line in lines if plan.PREFIX in (place := line.split()[4])}


def folders() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob(f"{plan.PREFIX}*")}


def programs() -> set[int]:
    """Programs of ours that no process holds: an agent's that runs meanwhile are none of these."""
    out = subprocess.run(["bpftool", "-j", "prog", "list"], capture_output=True, check=True).stdout
    names = {program.name[:15] for program in features.PROGRAMS}
    listed = {p["id"] for p in json.loads(out) if p.get("name", "")[:15] in names}
    return listed - set(held())


def held() -> Iterator[int]:
    """Ids of the programs that processes have open, themselves or their links."""
    for process in Path("/proc").glob("[0-9]*/fdinfo"):
        with suppress(OSError):  # it ends
            for opened in process.iterdir():
                with suppress(OSError):
                    yield from map(int, re.findall(r"^prog_id:\t(\d+)$", opened.read_text(), re.M))


def cgroups() -> set[str]:
    return {str(path) for path in Path("/sys/fs/cgroup").rglob("*flowobs*")}


@pytest.fixture
def clean_machine() -> Iterator[None]:
    """After the test all is as it was before."""
    leftovers.clean()
    before = mounts(), folders(), cgroups(), programs()
    yield
    assert network.leftover_namespaces() == []
    assert not leftovers.RECORD.exists()
    assert mounts() <= before[0]
    assert folders() <= before[1]
    assert cgroups() <= before[2]
    left = programs() - before[3]
    deadline = time.monotonic() + GONE_S  # the kernel frees programs after a grace period
    while left & programs() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left & programs()


def started() -> tuple[subprocess.Popen[str], list[int]]:
    """A demo that shows flows, and the processes it has started."""
    demo = subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert demo.stdout is not None
    assert any(line.startswith("{") for line in demo.stdout)
    pids = [pid for pid, _ in json.loads(leftovers.RECORD.read_text())["processes"]]
    pids += network.processes_inside(network.leftover_namespaces())
    assert len(pids) > 9
    return demo, pids


def running(pids: list[int]) -> list[int]:
    return [pid for pid in pids if leftovers.start_time(pid) is not None]


@pytest.mark.parametrize("loader", ["core", pytest.param("bcc", marks=pytest.mark.bcc)])
def test_every_edge_is_seen_by_name(loader: str, clean_machine: None) -> None:
    command = [*DEMO, "--for", "8s", "--loader", loader]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^all \d+ expected edges were seen", done.stdout, re.M)
    assert re.search(r"shop/redis-0:6380 tcp .* fails", done.stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stops_when_told(number: signal.Signals, clean_machine: None) -> None:
    demo, pids = started()
    with demo:
        demo.send_signal(number)
        demo.communicate(timeout=30)

    assert demo.returncode == 0
    assert running(pids) == []


def test_the_next_start_cleans_up_after_a_kill(clean_machine: None) -> None:
    killed, pids = started()
    with killed:
        killed.kill()

    command = [*DEMO, "--for", "5s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "removed what an earlier demo had left" in done.stdout
    assert running(pids) == []


def test_a_second_demo_is_refused(clean_machine: None) -> None:
    with leftovers.lock():
        done = subprocess.run(DEMO, capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 1
    assert "runs already" in done.stderr
    assert "Traceback" not in done.stderr
