"""Runs the real ``flows`` command: in a pipe, or on a terminal that the test reads."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
ENV = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(ROOT),
    "TZ": "UTC",
    "TERM": "xterm",
    "LANG": "C.UTF-8",
}
FLOWS = [sys.executable, "-m", "flowobs.cli.flows"]


def run(*args: str, server: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """The command in a pipe."""
    return subprocess.run(
        [*FLOWS, *args],
        env=ENV | {"FLOWS_SERVER": server or "http://127.0.0.1:1"} | env,
        capture_output=True,
        text=True,
        timeout=60,
    )


def plain(text: str) -> list[str]:
    """Its lines without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


class Terminal:
    """The command on a terminal of its own (standard output and error)."""

    def __init__(self, *args: str, server: str, columns: int = 120, **env: str) -> None:
        self._fd, other = pty.openpty()
        ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = subprocess.Popen(
            [*FLOWS, *args],
            env=ENV | {"FLOWS_SERVER": server} | env,
            stdin=subprocess.DEVNULL,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self.text = ""

    def wait_for(self, text: str, timeout: float = 60) -> str:
        """Reads until ``text`` has been written; everything that was written so far."""
        end = time.monotonic() + timeout
        while text not in self.text:
            assert time.monotonic() < end, f"{text!r} did not come, but {self.text!r}"
            if not self._read(0.1):
                assert text in self.text, f"ended without {text!r}: {self.text!r}"
        return self.text

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self, timeout: float = 60) -> int:
        """Reads to the end; the exit code."""
        end = time.monotonic() + timeout
        while self._read(0.1):
            assert time.monotonic() < end, f"does not end: {self.text!r}"
        return self.process.wait(timeout)

    def _read(self, timeout: float) -> bool:
        if select.select([self._fd], [], [], timeout)[0]:
            try:
                self.text += os.read(self._fd, 1 << 16).decode().replace("\r\n", "\n")
            except OSError:  # how Linux says that the other end was closed
                return False
        return True

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self._fd)
