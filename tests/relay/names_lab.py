"""A relay's names over a fake API server, and agents that follow them, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from flowobs.kubernetes.backoff import Timing
from flowobs.kubernetes.stream import StreamSource
from relay.identity import service
from relay.identity.cluster import ClusterNames
from relay.ingest import SERVER_OPTIONS
from relay.metrics import RelayMetrics
from tests.kubernetes.fake_api import FakeApi
from tests.kubernetes.fakes import QUICK, access

HASTE = Timing(least=0.005, most=0.05)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TICK_S", 0.01)
    monkeypatch.setattr(service, "BEAT_S", 0.05)


class Relay:
    """The relay's names behind a gRPC server at ``path``; may be stopped and started again."""

    def __init__(self, api: FakeApi, path: Path, timing: Timing = QUICK) -> None:
        self.api, self.timing = api, timing
        self.target = f"unix:{path}"

    async def start(self) -> None:
        self.registry = CollectorRegistry()
        metrics = RelayMetrics(self.registry, "9")
        self.names = ClusterNames(access(self.api), metrics, timing=self.timing)
        self.server = grpc.aio.server(options=SERVER_OPTIONS)
        self.server.add_generic_rpc_handlers((self.names.handler(),))
        self.server.add_insecure_port(self.target)
        await self.server.start()
        self._task = asyncio.create_task(self.names.run())

    async def stop(self) -> None:
        assert not self._task.done(), self._task
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.server.stop(0)

    def connect(self) -> grpc.aio.Channel:
        # a server of before at the same path must not be taken for this one
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
        options.append(("grpc.initial_reconnect_backoff_ms", 20))
        return grpc.aio.insecure_channel(self.target, options)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"flowobs_relay_{name}", labels)


class Agent:
    """A follower that may be cut off; what it knows outlives its streams."""

    def __init__(self, relay: Relay, name: str = "node-1", **more: Any) -> None:
        self.source = StreamSource(relay.connect, agent=name, timing=HASTE, **more)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.source.run())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            assert not task.done(), task
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.source.replica.interrupted()

    @property
    def running(self) -> bool:
        return self._task is not None


@contextlib.asynccontextmanager
async def relaying(api: FakeApi, path: Path, timing: Timing = QUICK) -> AsyncIterator[Relay]:
    made = Relay(api, path, timing)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@contextlib.asynccontextmanager
async def following(relay: Relay, name: str = "node-1") -> AsyncIterator[StreamSource]:
    agent = Agent(relay, name)
    agent.start()
    try:
        yield agent.source
    finally:
        await agent.stop()
