"""A real relay process and a small agent that talks to it, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

from flowobs.agent.forward import Forwarder
from flowobs.batch import FlowBatch

T = TypeVar("T")
_READY = re.compile(r"relay ready: (https?://\S+) - agents: (\S+)")


class RelayProcess:
    """``flowobs-relay`` on free ports, its data in ``folder``; run by the command ``inside``.

    ``program`` is what Python runs instead of the command itself.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        inside: Sequence[str] = (),
        program: Sequence[str] = ("-m", "relay.cli"),
    ) -> None:
        self.log = folder / "relay.log"
        command = [
            *inside,
            sys.executable,
            *program,
            "--store",
            f"chdb://{folder / 'store'}",
        ]
        if "--http" not in arguments:
            command += ["--http", "127.0.0.1:0"]
        if "--listen" not in arguments:
            command += ["--listen", "127.0.0.1:0"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log)
        try:
            ready = wait_for(lambda: _READY.search(self.log.read_text()) or self._dead(), 60)
            assert isinstance(ready, re.Match), self.log.read_text()
        except AssertionError:
            self.process.kill()
            raise
        self.url, self.agents = ready.groups()

    def _dead(self) -> bool:
        return self.process.poll() is not None

    def client(self) -> httpx.Client:
        """An HTTP client of this relay."""
        return httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    def stop(self) -> None:
        """SIGTERM. Asserts exit code 0."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(60) == 0, self.log.read_text()

    def peak_mb(self) -> float:
        """The most memory it had so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


class Agent:
    """Sends batches to a relay from a thread of its own."""

    def __init__(self, target: str, name: str = "node-1", **options: Any) -> None:
        intervals = {"batch_interval": 0.02, "group_interval": 0.2}
        self.forwarder = Forwarder(
            target, agent=name, node=name, version="test", **intervals | options
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._task: asyncio.Task[None] | None = None
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self.forwarder.run())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def put(self, batch: FlowBatch) -> None:
        """Send soon."""
        self.forwarder.put(batch)

    def store(self, batch: FlowBatch) -> None:
        """Send, and wait until the relay has stored it."""
        before = self.forwarder.stats.stored_records
        self.put(batch)
        wait_for(lambda: self.forwarder.stats.stored_records >= before + len(batch))

    def stop(self) -> None:
        """End the stream."""
        task = self._task
        if task is not None:
            self._loop.call_soon_threadsafe(task.cancel)
        self._thread.join(5)


def wait_for(condition: Callable[[], T], seconds: float = 60) -> T:
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[RelayProcess]:
    """A relay that is stopped at the end."""
    relay = RelayProcess(folder, *arguments)
    try:
        yield relay
    finally:
        relay.process.terminate()
        relay.process.wait(60)
