"""The whole way with nothing faked: two agents, the wire, a relay that is replaced, the engine."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from flowobs.agent.forward import Forwarder
from flowobs.batch import FlowBatch
from flowobs.rows import row_dicts
from relay.committer import DirectCommitter
from relay.ingest import SERVER_OPTIONS, Ingest
from relay.metrics import RelayMetrics
from relay.store import Store
from relay.store.ddl import COLUMN_LIST
from tests.flow_factory import new_table, random_batch


class NoHub:
    def publish(self, batch: FlowBatch, resent: bool) -> None: ...


@contextlib.asynccontextmanager
async def relay(store: Store, target: str):
    deaths: list[BaseException] = []
    metrics = RelayMetrics(CollectorRegistry(), "0")
    committer = DirectCommitter(store, metrics, deaths.append)
    committer.start()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((Ingest(NoHub(), committer, metrics, version="0").handler(),))
    server.add_insecure_port(target)
    await server.start()
    yield
    await server.stop(0)
    await committer.stop(5)
    assert not deaths


@pytest.mark.slow
async def test_every_record_is_in_the_store_once(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("flowobs.agent.forward._BACKOFF_FIRST", 0.05)
    target = f"unix://{tmp_path}/relay.sock"
    store = Store.open(f"chdb://{tmp_path}/store")
    agents = [
        Forwarder(
            target,
            agent=name,
            node=name,
            version="0",
            batch_interval=0.02,
            group_interval=0.1,
        )
        for name in ("a", "b")
    ]
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    tables, sent = [new_table(), new_table()], []

    async def traffic(first: int) -> None:
        for seed in range(first, first + 15):
            for agent, table in zip(agents, tables, strict=True):
                batch = random_batch(100, table, seed * 2 + (table is tables[1]))
                sent.append(batch)
                await asyncio.to_thread(agent.put, batch)
            await asyncio.sleep(0.02)

    async with relay(store, target):
        await traffic(0)
    await traffic(15)  # nobody is there
    async with relay(store, target):
        await traffic(30)
        assert [await agent.flush(60) for agent in agents] == [0, 0]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    table = store.reader().query(f"SELECT {COLUMN_LIST} FROM flows")
    stored = sorted(map(str, row_dicts(table.columns, table.rows)))
    assert stored == sorted(str(row) for batch in sent for row in batch.rows())
    store.close()
