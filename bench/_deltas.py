"""What the relay's identity stream costs while a cluster changes, and how late changes come.

A real relay process watches the API server of bench/_cluster.py; the agents are streams of another
process. They look at every message: a version that is missing, twice or out of order is an error.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np

from bench.agents import _cpu_s
from flowobs._proto.flowobs.v1 import identity_pb2 as pb
from flowobs.kubernetes import changes
from flowobs.kubernetes.changes import Put

RATE = 100
"""Changes of pods a second."""
_SETTLE_S = 2.0
_NAP_S = 0.02
_KEPT = 5_000
"""Messages remembered: an agent that is further behind has a snapshot coming."""


def measure(port: int, agents: Sequence[int], seconds: float) -> dict[str, Any]:
    """``core_N``: share of a core that the relay takes with N agents. Of the most agents:
    ``changes_per_s`` that there were, ``p99_s`` that they took to come, ``late_p99_s`` of which is
    this machine's that let the agents' process wait.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "kubeconfig"
        config.write_text(kubeconfig(port))
        socket, log = f"unix://{folder}/sock", Path(folder) / "log"
        options = ["--store", f"chdb://{folder}/store", "--http", "127.0.0.1:0"]
        options += ["--listen", socket, "--kubernetes", str(config)]
        with log.open("w") as out:
            relay = subprocess.Popen(
                [sys.executable, "-m", "relay.cli", *options], stdout=out, stderr=out
            )
        try:
            deadline = time.monotonic() + 60
            while "names known" not in log.read_text():
                if relay.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the relay did not start: {log.read_text()}")
                time.sleep(0.1)
            words = [socket, str(relay.pid), str(port), str(seconds), *map(str, agents)]
            command = [sys.executable, "-m", "bench._deltas", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr.strip().splitlines()[-1])
            found: dict[str, Any] = json.loads(done.stdout)
            return found
        finally:
            relay.terminate()
            relay.wait(60)


def kubeconfig(port: int) -> str:
    return json.dumps(
        {
            "current-context": "bench",
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
            "clusters": [{"name": "bench", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "bench", "user": {"token": "bench"}}],
        }
    )


class _Messages:
    """Messages by their bytes: all agents get the same, and one look is enough."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[str, int, list[int]]] = {}

    def look(self, data: bytes) -> tuple[str, int, list[int]]:
        """Kind, version (0: not the end of it) and times of the changes in it."""
        found = self._seen.get(data)
        if found is None:
            if len(self._seen) == _KEPT:
                del self._seen[next(iter(self._seen))]
            found = self._seen[data] = self._parse(pb.IdentityMessage.FromString(data))
        return found

    @staticmethod
    def _parse(message: pb.IdentityMessage) -> tuple[str, int, list[int]]:
        kind = message.WhichOneof("message") or ""
        if kind == "snapshot":
            return kind, message.snapshot.version if message.snapshot.last else 0, []
        if kind != "delta":
            return kind, 0, []
        objects = [
            changes.thing(change)
            for change in changes.unpack(message.delta.changes)
            if isinstance(change, Put)
        ]
        stamps = [o.metadata.annotations for o in objects if o is not None]
        return kind, message.delta.version, [int(s.config_hash) for s in stamps if s is not None]


class _Agent:
    def __init__(self, target: str, name: str, messages: _Messages, waits: list[float]) -> None:
        self.known = asyncio.Event()
        self._target, self._name = target, name
        self._messages, self._waits = messages, waits
        self._version = 0

    async def run(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._target, options) as channel:
            call: Any = channel.stream_stream("/flowobs.v1.Identity/Stream")()
            resume = pb.Resume(agent=self._name, node=self._name)
            await call.write(pb.IdentityRequest(resume=resume).SerializeToString())
            acked, due = 0, time.monotonic() + 1
            async for data in call:
                kind, version, stamps = self._messages.look(data)
                if kind == "delta" and version != self._version + 1:
                    raise RuntimeError(f"change {version} came after {self._version}")
                self._version = version or self._version
                if kind == "freshness" and self._version:
                    self.known.set()  # it comes after the changes since an older snapshot
                now = time.monotonic_ns()
                self._waits.extend((now - stamp) / 1e9 for stamp in stamps)
                if now / 1e9 > due and self._version != acked:
                    acked, due = self._version, now / 1e9 + 1
                    await call.write(pb.IdentityRequest(applied=acked).SerializeToString())


async def _simulate(
    target: str, relay: int, port: int, seconds: float, counts: Sequence[int]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    messages = _Messages()
    waits: list[float] = []
    runs: list[asyncio.Task[None]] = []
    await _churn(port, RATE)
    for count in counts:
        agents = [
            _Agent(target.replace("unix://", "unix:"), f"node-{n}", messages, waits)
            for n in range(len(runs), count)
        ]
        runs += [asyncio.create_task(agent.run()) for agent in agents]
        for agent in agents:
            async with asyncio.timeout(60):
                await agent.known.wait()
        await asyncio.sleep(_SETTLE_S)
        waits.clear()
        made, begin, before = await _churn(port), time.monotonic(), _cpu_s(relay)
        lateness = asyncio.create_task(_lateness(seconds))
        await asyncio.sleep(seconds)
        lasted, made = time.monotonic() - begin, await _churn(port) - made
        found[f"core_{count}"] = (_cpu_s(relay) - before) / lasted
        found["late_p99_s"] = float(np.percentile(await lateness, 99))
        if waits:
            found["p99_s"] = float(np.percentile(waits, 99))
            found["changes_per_s"] = made / lasted
            if len(waits) < 0.9 * made * count:
                raise RuntimeError(f"{len(waits)} changes came of {made * count}")
    await _churn(port, 0)
    for run in runs:
        if run.done():
            run.result()
            raise RuntimeError("a stream has ended")
        run.cancel()
    await asyncio.gather(*runs, return_exceptions=True)
    return found


async def _lateness(seconds: float) -> list[float]:
    """By how much a sleeper wakes up late in this process: no change can come sooner."""
    loop = asyncio.get_running_loop()
    late, end = [], loop.time() + seconds
    while (due := loop.time() + _NAP_S) < end:
        await asyncio.sleep(_NAP_S)
        late.append(loop.time() - due)
    return late


async def _churn(port: int, rate: float | None = None) -> int:
    """How many changes there were so far; with ``rate``, so many a second from now on."""
    url = f"http://127.0.0.1:{port}/churn" + (f"?rate={rate}" if rate is not None else "")

    def ask() -> int:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return int(answer.read())

    return await asyncio.to_thread(ask)


if __name__ == "__main__":
    target, relay, port, seconds, *counts = sys.argv[1:]
    simulated = _simulate(target, int(relay), int(port), float(seconds), [int(c) for c in counts])
    print(json.dumps(asyncio.run(simulated)))
