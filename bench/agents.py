"""What many agents cost a relay: 100 and 1,000 of them, 20,000 records a second in all.

A real relay process with an embedded store; the agents are streams from another process, which
collect and send as the relay's acks advise. SECONDS_EACH sets for how long (default 10).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np

from flowobs import schema, wire
from flowobs._proto.flowobs.v1 import flow_pb2 as pb
from flowobs.wire import Encoder

SECONDS = float(os.environ.get("SECONDS_EACH", "10"))
ROWS_PER_SECOND = 20_000
LIMITS = {100: 0.4, 1000: 0.5}
_WARM_UP_S = 3.0
_CHANNELS = 20


def run() -> list[dict[str, Any]]:
    """The share of a core the relay takes, and how long records wait for their ack."""
    figures = []
    for agents, limit in LIMITS.items():
        found = _measure(agents)
        note = f"at most {limit} ({found['rows_per_s']:,.0f} rows/s, {found['groups']} groups)"
        core = found["core"]
        figures += [
            _figure(f"core_{agents}", core, "cores", note, core / limit),
            _figure(f"ack_p99_s_{agents}", found["ack_p99_s"], "s", "", None),
        ]
    return figures


def _figure(
    metric: str, value: float, unit: str, against: str, ratio: float | None
) -> dict[str, Any]:
    return {
        "bench": "agents",
        "metric": metric,
        "value": round(value, 3),
        "unit": unit,
        "against": against,
        "ratio": ratio and round(ratio, 2),
    }


def _measure(agents: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        socket = f"unix://{folder}/sock"
        log = Path(folder) / "log"
        arguments = ["--store", f"chdb://{folder}/store", "--http", "127.0.0.1:0"]
        with log.open("w") as out:
            relay = subprocess.Popen(
                [sys.executable, "-m", "relay.cli", *arguments, "--listen", socket],
                stdout=out,
                stderr=out,
            )
        try:
            deadline = time.monotonic() + 30
            while "relay ready: " not in log.read_text():
                if relay.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the relay did not start: {log.read_text()}")
                time.sleep(0.05)
            # a process of its own: this one's CPU must not be the relay's, nor its GIL
            command = [sys.executable, "-m", "bench.agents", socket, str(agents), str(relay.pid)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr.strip().splitlines()[-1])
            found: dict[str, Any] = json.loads(done.stdout)
            return found
        finally:
            relay.terminate()
            relay.wait(60)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Agent:
    """One stream. Sends what its share of the rate has made since it last sent."""

    def __init__(self, number: int, rate: float) -> None:
        self.sent = self.acked = 0
        self.waits: list[float] = []
        self._name = f"node-{number}"
        self._rate = rate
        self._batch_s, self._group_s = 0.1, 1.0
        self.connected, self._all_acked = asyncio.Event(), asyncio.Event()
        self._closed: dict[int, tuple[float, int]] = {}
        self._group, self._group_rows = 1, 0

    async def run(self, channel: grpc.aio.Channel, records: Any, end: asyncio.Event) -> None:
        call: Any = channel.stream_stream(
            "/flowobs.v1.Ingest/Stream",
            pb.AgentMessage.SerializeToString,
            pb.RelayMessage.FromString,
        )(None)
        hello = pb.Hello(
            agent=self._name, epoch=time.time_ns(), node=self._name, version="bench",
            schema_version=schema.SCHEMA_VERSION,
        )  # fmt: skip
        await call.write(pb.AgentMessage(hello=hello))
        await call.read()
        for dictionary in Encoder(records.endpoints).pending():
            await call.write(pb.AgentMessage(dictionary=dictionary))
        self.connected.set()
        reading = asyncio.create_task(self._read(call))
        try:
            await self._send(call, records, end)
            await self._all_acked.wait()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            call.cancel()

    async def _read(self, call: Any) -> None:
        while isinstance(message := await call.read(), pb.RelayMessage):
            ack = message.ack
            self._batch_s = max(0.1, ack.batch_interval_ms / 1000)
            self._group_s = max(1.0, ack.group_interval_ms / 1000)
            for group in [g for g in self._closed if g <= ack.group]:
                closed, rows = self._closed.pop(group)
                self.waits.append(time.monotonic() - closed)
                self.acked += rows
            if not self._closed:
                self._all_acked.set()

    async def _send(self, call: Any, records: Any, end: asyncio.Event) -> None:
        last = opened = time.monotonic()
        at = random.randrange(len(records) // 2)
        await asyncio.sleep(random.random() * self._batch_s)
        while not end.is_set():
            now = time.monotonic()
            rows = min(len(records) // 2, round((now - last) * self._rate))
            last += rows / self._rate
            batch = records.select(slice(at, at + rows))
            batch.columns["time"] = np.full(rows, time.time_ns())
            at = (at + rows) % (len(records) // 2)
            close = now - opened >= self._group_s
            await self._write(call, batch, close)
            if close:
                opened = now
            await asyncio.sleep(self._batch_s)
        await self._write(call, records.select(slice(0, 0)), True)

    async def _write(self, call: Any, batch: Any, close: bool) -> None:
        self.sent += len(batch)
        self._group_rows += len(batch)
        if close:
            self._all_acked.clear()
            self._closed[self._group] = (time.monotonic(), self._group_rows)
        data = wire.encode(batch, self._group, close=close)
        if close:
            self._group, self._group_rows = self._group + 1, 0
        await call.write(pb.AgentMessage(batch=data))


async def _simulate(target: str, count: int, relay: int) -> dict[str, Any]:
    from bench.traffic import Traffic

    # a node knows its own pods and those they talk to
    records = Traffic(pods=60, edges=200).batch(20_000, time.time_ns(), 10**9)
    channels = [
        grpc.aio.insecure_channel(
            target.replace("unix://", "unix:"), [("grpc.use_local_subchannel_pool", 1)]
        )
        for _ in range(min(count, _CHANNELS))
    ]
    end = asyncio.Event()
    agents = [_Agent(i, ROWS_PER_SECOND / count) for i in range(count)]
    runs = [
        asyncio.create_task(agent.run(channels[i % len(channels)], records, end))
        for i, agent in enumerate(agents)
    ]
    await asyncio.gather(*(agent.connected.wait() for agent in agents))
    await asyncio.sleep(_WARM_UP_S)
    for agent in agents:
        agent.waits.clear()
    begin, before = time.monotonic(), _cpu_s(relay)
    sent = sum(agent.sent for agent in agents)
    await asyncio.sleep(SECONDS)
    core = (_cpu_s(relay) - before) / (time.monotonic() - begin)
    sent = sum(agent.sent for agent in agents) - sent
    end.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*runs)
    for channel in channels:
        with contextlib.suppress(Exception):
            await channel.close()
    if any(agent.sent != agent.acked for agent in agents):
        raise RuntimeError("not everything that was sent was acknowledged")
    waits = [wait for agent in agents for wait in agent.waits]
    return {
        "core": core,
        "rows_per_s": sent / SECONDS,
        "ack_p99_s": float(np.percentile(waits, 99)),
        "groups": len(waits),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_simulate(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
