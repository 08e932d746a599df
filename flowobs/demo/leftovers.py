"""What a run of the demo has on the machine, written down: the next one cleans up after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from flowobs.cli.errors import CliError
from flowobs.demo import network, plan

RECORD = Path("/run/flowobs-demo.json")
LOCK = "\0flowobs-demo"
"""An abstract socket: whoever has it is this machine's one demo; it goes with its process."""
GONE_S = 5.0


def lock() -> socket.socket:
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(LOCK)
    except OSError as error:
        held.close()
        raise CliError(
            "The demo runs already on this machine. Stop that one first, with Ctrl-C."
        ) from error
    return held


def folder() -> Path:
    """A new folder for this run's files, noted."""
    made = Path(tempfile.mkdtemp(prefix=plan.PREFIX))
    note(made, [])
    made.chmod(0o711)  # nginx's workers are not root
    return made


def note(folder: Path, pids: Iterable[int]) -> None:
    """Writes down the folder and processes of this run, after each start of a process."""
    processes = [(pid, started) for pid in pids if (started := start_time(pid)) is not None]
    text = json.dumps({"folder": str(folder), "processes": processes})
    new = RECORD.with_suffix(".new")
    new.write_text(text)
    new.rename(RECORD)


def clean() -> bool:
    """Removes what a run has left, this one or a killed one; whether there was anything."""
    left, processes = _read()
    ours = {pid for pid, started in processes if start_time(pid) == started}
    namespaces = network.leftover_namespaces()
    # a server's own children (nginx) are in nobody's list, but in our namespaces
    kill(ours | set(network.processes_inside(namespaces)))
    network.remove(namespaces)
    if left is not None and left.name.startswith(plan.PREFIX):
        shutil.rmtree(left, ignore_errors=True)
    RECORD.unlink(missing_ok=True)
    return bool(ours or namespaces or left)


def kill(pids: set[int]) -> None:
    """Kills processes and waits until they are gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + GONE_S
    while any(start_time(pid) is not None for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)


def start_time(pid: int) -> int | None:
    """When a process started, in ticks since boot: with the pid it names one process for good.

    None if it is gone.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state == "Z" else int(fields[18])


def _read() -> tuple[Path | None, list[tuple[int, int]]]:
    try:
        found = json.loads(RECORD.read_text())
        return Path(found["folder"]), [(int(pid), int(at)) for pid, at in found["processes"]]
    except FileNotFoundError:
        return None, []
    except (ValueError, KeyError, TypeError):  # written only halfway
        return None, []
