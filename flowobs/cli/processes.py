"""Child processes that do not outlive their parent: for ``flowobs up`` and the demo."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from flowobs.cli.errors import CliError
from flowobs.cli.text import clean

GRACE_S = 5.0
LAST_LINES = 10
_USAGE = ("Usage: ", "Try '")
"""What click writes above an error: of options that the user has not typed."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def python(module: str) -> list[str]:
    """Runs one of our modules, and nothing that happens to lie in the current folder."""
    return [sys.executable, "-P", "-m", module]


def flows_program() -> str:
    """What to type for `flows`: its path, unless this environment is active in the user's shell."""
    beside = Path(sys.executable).with_name("flows")
    if os.environ.get("VIRTUAL_ENV") == sys.prefix or not beside.exists():
        return "flows"
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)


class Processes:
    """Children by name, each in a session of its own, so that Ctrl-C reaches only the parent.

    What one writes goes to ``<folder>/<name>.log``. They get SIGTERM when the thread that has
    started them ends, however it does: start them in the main thread.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        parent = os.getpid()

        def end_with_parent() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it ended before it could be watched
                os._exit(1)

        with self.log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def pids(self) -> list[int]:
        return [process.pid for process in self._running.values()]

    def check(self) -> None:
        """Raises CliError with the last lines of a process that has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise CliError(f"The {name} {_end(process.returncode)}.{self.last_lines(name)}")

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Ends all, the last one started first, so that it can still hand over to the others.

        Who does not heed SIGTERM in time is killed. Takes no longer than ``grace_s``.
        """
        end = time.monotonic() + grace_s
        while self._running:
            _, process = self._running.popitem()
            process.terminate()
            left = max(0.0, end - time.monotonic())
            with contextlib.suppress(subprocess.TimeoutExpired):
                # An agent waits 3 s for its last records to be stored: it gets most of the time.
                process.wait(left * (0.75 if self._running else 1))
            # Its whole group: what it has started itself must not stay either.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def last_lines(self, name: str) -> str:
        try:
            log = self.log(name).read_bytes()[-10_000:]
        except FileNotFoundError:  # somebody has tidied up the temporary files
            return ""
        lines = log.decode(errors="replace").splitlines()
        lines = [line for line in lines[-LAST_LINES:] if not line.startswith(_USAGE)]
        said = "".join(f"\n  {clean(line)}" for line in lines if line)
        return f" Its last lines:{said}" if said else ""

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _end(code: int) -> str:
    if code < 0:
        return f"was ended by signal {signal.Signals(-code).name}"
    return f"has ended with exit code {code}"
