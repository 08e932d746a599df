"""``flowobs up`` with the real relay and agent, in a network namespace of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.busy import within
from tests.cli.terminal import ENV, FLOWS

pytestmark = [
    pytest.mark.root,
    pytest.mark.bpf,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="loading eBPF needs root"),
]


class Up:
    def __init__(self, folder: Path) -> None:
        temporary = folder / "tmp"
        temporary.mkdir()
        up = f"{sys.executable} -m flowobs.cli.flowobs up --store chdb://{folder}/store"
        self.temporary = temporary
        self.process = subprocess.Popen(
            ["unshare", "-n", "--", "sh", "-c", f"ip link set lo up && exec {up}"],
            env=ENV | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.shown: list[str] = []
        assert self.process.stdout
        for line in self.process.stdout:
            self.shown.append(line.rstrip())
            if line.startswith("Ctrl-C"):
                break

    def children(self) -> dict[str, int]:
        """Process ids of relay and agent."""
        found = {}
        for pid in _children(self.process.pid):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            found["agent" if "agent" in words else "relay"] = pid
        return found

    def run(self, *command: str) -> str:
        inside = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", "--", *command]
        return subprocess.run(
            inside, env=ENV, capture_output=True, text=True, check=True, timeout=60
        ).stdout


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    with contextlib.suppress(ProcessLookupError):
        up.process.terminate()
    up.process.communicate(timeout=60)


def test_everything_works_and_stops_in_time(up: Up) -> None:
    command = up.shown[-4].split()[1]
    assert Path(command).is_file()  # no `flows` that only an active environment has
    assert up.shown[-6:-2] == [
        "  web map  http://127.0.0.1:8080/",
        "  API      http://127.0.0.1:8080/api/v1/flows",
        f"  command  {command} --server http://127.0.0.1:8080",
        "  metrics  http://127.0.0.1:8080/metrics and http://127.0.0.1:9465/metrics",
    ]
    children = up.children()
    assert sorted(children) == ["agent", "relay"]
    up.run("ping", "-c1", "-q", "127.0.0.1")
    wait_for(lambda: up.run(*FLOWS, "--last", "1", "--kind", "open", "--proto", "icmp"))
    [line] = up.run(*FLOWS, "--last", "1", "--kind", "open", "--proto", "icmp").splitlines()
    assert json.loads(line)["dst_ip"] == "127.0.0.1"
    wait_for(lambda: json.loads(up.run(*FLOWS, "map"))["edges"])
    assert up.run(*FLOWS, "status", "-o", "text").startswith("relay  http://127.0.0.1:8080")
    with within(5.5):
        up.process.send_signal(signal.SIGINT)
        out, error = up.process.communicate(timeout=60)
    assert (out, error, up.process.returncode) == ("stopping\n", "", 0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children.values())
    assert list(up.temporary.iterdir()) == []


@pytest.mark.parametrize("part", ["relay", "agent"])
def test_a_part_that_dies_ends_the_whole(up: Up, part: str) -> None:
    children = up.children()
    os.kill(children[part], signal.SIGKILL)
    _, error = up.process.communicate(timeout=60)
    assert f"The {part} was ended by signal SIGKILL." in error
    assert up.process.returncode == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in children.values())


def test_the_parts_do_not_outlive_a_killed_parent(up: Up) -> None:
    children = up.children()
    up.process.kill()
    wait_for(lambda: not any(_is_running(pid) for pid in children.values()))


def _is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
