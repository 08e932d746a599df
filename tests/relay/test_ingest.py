from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from flowobs import schema, wire
from flowobs._proto.flowobs.v1 import flow_pb2 as pb
from flowobs.agent.forward import Forwarder
from flowobs.batch import FlowBatch
from flowobs.wire import Encoder
from relay import ingest as ingest_module
from relay.committer import Group
from relay.dictionary import Dictionary
from relay.ingest import SERVER_OPTIONS, Ingest
from relay.metrics import RelayMetrics
from tests.flow_factory import new_table, random_batch


class FakeHub:
    def __init__(self) -> None:
        self.published: list[tuple[FlowBatch, bool]] = []

    def publish(self, batch: FlowBatch, resent: bool) -> None:
        self.published.append((batch, resent))


class FakeCommitter:
    """Stores groups when told to: at once while ``auto``, else by ``finish``."""

    lag_s = 0.0
    error: str | None = None

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.auto = True
        self.room = asyncio.Event()
        self.room.set()

    @property
    def queue_rows(self) -> int:
        return 0

    def start(self) -> None: ...

    async def submit(self, group: Group) -> None:
        await self.room.wait()
        self.groups.append(group)
        if self.auto:
            group.stored()

    def stored(self, agent: str, epoch: int) -> int:
        return 0

    def group_interval_ms(self, agents: int) -> int:
        return 1000 * agents

    async def stop(self, patience: float) -> int:
        return 0

    def rows(self) -> list[dict]:
        return [r for g in self.groups for b in g.batches for r in b.rows()]


class Relay:
    def __init__(self, path: Path) -> None:
        self.target = f"unix://{path}"
        self.hub, self.committer = FakeHub(), FakeCommitter()
        self.registry = CollectorRegistry()
        self.dictionary = Dictionary()
        self.ingest = Ingest(
            self.hub,
            self.committer,
            RelayMetrics(self.registry, "9"),
            version="9",
            dictionary=self.dictionary,
            max_agents=3,
        )
        self.server = grpc.aio.server(options=SERVER_OPTIONS)
        self.server.add_generic_rpc_handlers((self.ingest.handler(),))
        self.server.add_insecure_port(self.target)
        self.channel = grpc.aio.insecure_channel(self.target)

    def call(self) -> grpc.aio.StreamStreamCall:
        return self.channel.stream_stream(
            "/flowobs.v1.Ingest/Stream", None, pb.RelayMessage.FromString
        )()

    async def hello(self, agent: str = "a", epoch: int = 1, **fields) -> grpc.aio.StreamStreamCall:
        call = self.call()
        fields = {"node": "n", "version": "1", "schema_version": schema.SCHEMA_VERSION} | fields
        await send(call, hello=pb.Hello(agent=agent, epoch=epoch, **fields))
        return call

    async def connect(self, agent: str = "a", epoch: int = 1) -> grpc.aio.StreamStreamCall:
        call = await self.hello(agent, epoch)
        assert (await call.read()).WhichOneof("message") == "welcome"
        return call

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"flowobs_relay_{name}", labels)


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    made = Relay(tmp_path / "relay.sock")
    await made.server.start()
    yield made
    await made.channel.close()
    await made.server.stop(0)


async def send(call: grpc.aio.StreamStreamCall, **fields) -> None:
    await call.write(pb.AgentMessage(**fields).SerializeToString())


async def tell(call: grpc.aio.StreamStreamCall, batch: FlowBatch) -> None:
    for message in Encoder(batch.endpoints).pending():
        await send(call, dictionary=message)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def end_of(call: grpc.aio.StreamStreamCall) -> tuple[grpc.StatusCode, str]:
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    return await call.code(), await call.details()


async def test_a_micro_batch_is_live_at_once_and_stored_when_its_group_is_closed(relay):
    call = await relay.connect()
    one, table = random_batch(3, new_table(), 1), None
    table = one.endpoints
    two = random_batch(4, table, 2)
    await tell(call, two)
    await send(call, batch=wire.encode(one, 1))
    await until(lambda: len(relay.hub.published) == 1)
    assert relay.committer.groups == []

    await send(call, batch=wire.encode(two, 1, close=True))
    ack = (await call.read()).ack
    assert (ack.group, ack.batch_interval_ms, ack.group_interval_ms) == (1, 100, 1000)
    assert relay.committer.groups[0].token == "a/1/1"
    assert relay.committer.rows() == [*one.rows(), *two.rows()]
    assert relay.value("records_received_total") == 7
    assert relay.value("batches_received_total") == 2
    assert relay.value("agents_connected") == 1


async def test_status_knows_agents_and_what_they_lost(relay):
    call = await relay.connect("node-1")
    batch = FlowBatch.zeros(2, new_table())
    batch.columns["time"][:] = time.time_ns()
    batch.columns["kind"][:] = [schema.Kind.lost, schema.Kind.open]
    batch.columns["lost"][:] = [7, 99]
    await send(call, batch=wire.encode(batch, 1))
    await until(lambda: relay.ingest.agents[0].rows == 2)
    status = relay.ingest.agents[0]
    assert (status.agent, status.node, status.version) == ("node-1", "n", "1")
    assert (status.connected, status.lost) == (True, 7)
    assert status.names_age_s == 0
    for rows, ages in ((4, [0, 95]), (6, [0, 0])):
        batch.columns["dst_identity_age"][:] = ages
        await send(call, batch=wire.encode(batch, 1))
        await until(lambda rows=rows: relay.ingest.agents[0].rows == rows)
        assert status.names_age_s == 95, "a batch without such a name does not say that all is well"
    status.names_told = 0
    await send(call, batch=wire.encode(batch, 1))
    await until(lambda: status.names_age_s == 0)
    call.cancel()
    await until(lambda: not relay.ingest.agents[0].connected)
    assert relay.value("agents_connected") == 0


class EndingContext:
    """A stream that says Hello and ends."""

    def __init__(self) -> None:
        self.written = asyncio.Event()
        hello = pb.Hello(agent="a", epoch=1, schema_version=schema.SCHEMA_VERSION)
        self._messages = [pb.AgentMessage(hello=hello).SerializeToString()]

    async def read(self) -> object:
        return self._messages.pop() if self._messages else grpc.aio.EOF

    async def write(self, _message: pb.RelayMessage) -> None:
        self.written.set()


@pytest.mark.parametrize("turns", range(6))
async def test_an_agent_is_gone_whenever_in_its_end_it_is_cancelled(relay, turns):
    context = EndingContext()
    serving = asyncio.create_task(relay.ingest._serve(None, context))
    await context.written.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert not relay.ingest.agents[0].connected
    assert relay.value("agents_connected") == 0


async def test_a_group_that_comes_again_is_acknowledged_but_not_submitted_twice(relay):
    relay.committer.auto = False
    batch = random_batch(3, new_table())
    data = wire.encode(batch, 1, close=True)
    first = await relay.connect()
    await tell(first, batch)
    await send(first, batch=data)
    await until(lambda: len(relay.committer.groups) == 1)
    first.cancel()

    second = await relay.connect()
    await tell(second, batch)
    await send(second, batch=data, resent=True)
    await until(lambda: relay.value("groups_resent_total") == 1)
    relay.committer.groups[0].stored()
    while (await second.read()).ack.group != 1:
        pass
    assert len(relay.committer.groups) == 1
    assert len(relay.hub.published) == 1

    third = await relay.hello()
    assert (await third.read()).welcome.stored_group == 1


async def test_after_a_restart_a_resent_group_goes_to_the_store_and_not_to_subscribers(relay):
    batch = random_batch(3, new_table())
    call = await relay.connect()
    await tell(call, batch)
    await send(call, batch=wire.encode(batch, 41, close=True), resent=True)
    assert (await call.read()).ack.group == 41
    assert relay.hub.published[0][1] is True


async def test_an_unfinished_group_is_forgotten_with_its_stream(relay):
    batch = random_batch(3, new_table())
    first = await relay.connect()
    await tell(first, batch)
    await send(first, batch=wire.encode(batch, 1))
    await until(lambda: relay.hub.published)
    first.cancel()
    second = await relay.connect()
    await tell(second, batch)
    await send(second, batch=wire.encode(batch, 1), resent=True)
    await send(second, batch=wire.encode(FlowBatch.zeros(0, batch.endpoints), 1, close=True))
    assert (await second.read()).ack.group == 1
    assert relay.committer.rows() == list(batch.rows())


async def test_a_full_committer_stops_the_reading_and_nothing_is_lost(relay):
    relay.committer.room.clear()
    batch = random_batch(10, new_table())
    call = await relay.connect()
    await tell(call, batch)
    for number in (1, 2, 3):
        await send(call, batch=wire.encode(batch, number, close=True))
    await until(lambda: relay.hub.published)
    await asyncio.sleep(0.1)
    assert len(relay.hub.published) == 1
    relay.committer.room.set()
    await until(lambda: len(relay.committer.groups) == 3)


async def test_the_agent_that_started_later_keeps_the_name(relay):
    old = await relay.connect("a", epoch=1)
    new = await relay.connect("a", epoch=2)
    code, text = await end_of(old)
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "a name of its own" in text
    code, _ = await end_of(await relay.hello("a", epoch=1))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert relay.value("agents_connected") == 1
    assert [agent.connected for agent in relay.ingest.agents] == [True]
    assert relay.value("streams_refused_total", reason="duplicate_agent") == 2
    new.cancel()


async def test_a_duplicate_name_is_said_once(relay, caplog):
    await relay.connect("a", epoch=2)
    for _ in range(3):
        await end_of(await relay.hello("a", epoch=1))
    assert len([r for r in caplog.records if "started later" in r.message]) == 1


async def test_another_schema_version_is_a_failed_precondition(relay):
    code, text = await end_of(await relay.hello(schema_version=99))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "schema version 99" in text


@pytest.mark.parametrize("agent", ["", "x" * 254, "a\nb"])
async def test_a_hello_needs_a_proper_name(relay, agent):
    code, text = await end_of(await relay.hello(agent))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "printable name" in text


async def test_more_agents_than_allowed_are_refused_and_old_ones_forgotten(relay):
    calls = [await relay.connect(f"a{i}") for i in range(3)]
    code, _ = await end_of(await relay.hello("a3"))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    calls[1].cancel()
    await until(lambda: not relay.ingest.agents[1].connected)
    await relay.connect("a3")
    assert [a.agent for a in relay.ingest.agents] == ["a0", "a2", "a3"]


def micro(*, rows: int = 1, group: int = 1, times: list[int] | None = None) -> bytes:
    message = pb.MicroBatch(group=group, rows=rows)
    if times is not None:
        message.columns.add(id=1, data=np.array(times, "<i8").tobytes())
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"batch": b"\xff\xff\xff"}, "not a MicroBatch"),
        ({"batch": micro(rows=10**9)}, "over the limit"),
        ({"batch": micro(rows=2, times=[1])}, "8 bytes for 2 rows"),
        ({"batch": micro(times=[-1])}, "before 1970"),
        ({"batch": micro(rows=2, times=[0, 10**18])}, "7 days apart"),
        ({"batch": wire.encode(random_batch(1, new_table()), 1)}, "unknown"),
        ({"dictionary": pb.Dictionary(strings_base=9, strings=["x"])}, "expected 0"),
    ],
)
async def test_malformed_data_ends_its_stream_and_nothing_else(relay, fields, text):
    good = await relay.connect("good")
    bad = await relay.connect("bad")
    await send(bad, **fields)
    code, details = await end_of(bad)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text in details
    assert relay.value("streams_refused_total", reason="malformed") == 1

    batch = random_batch(2, new_table())
    await tell(good, batch)
    await send(good, batch=wire.encode(batch, 1, close=True))
    assert (await good.read()).ack.group == 1


async def test_bytes_that_are_no_message_are_malformed(relay):
    call = await relay.connect()
    await call.write(b"\xff\xff\xff")
    code, text = await end_of(call)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "not an AgentMessage" in text


async def test_a_group_is_bounded_and_one_at_a_time(relay, monkeypatch):
    monkeypatch.setattr(ingest_module, "MAX_GROUP_ROWS", 3)
    call = await relay.connect("big")
    await send(call, batch=micro(rows=4))
    assert "more than 3 rows" in (await end_of(call))[1]
    call = await relay.connect("mixed")
    await send(call, batch=micro(group=1))
    await send(call, batch=micro(group=2))
    assert "while group 1 is open" in (await end_of(call))[1]


async def test_a_real_forwarder_delivers_everything_over_broken_streams(relay, monkeypatch):
    monkeypatch.setattr("flowobs.agent.forward._BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(relay.dictionary, "_limit", 60)
    forwarder = Forwarder(
        relay.target,
        agent="real",
        node="n",
        version="1",
        batch_interval=0.005,
        group_interval=0.03,
    )
    task = asyncio.create_task(forwarder.run())
    table, sent = new_table(), []
    for seed in range(40):
        if seed == 20:
            table = new_table()
        batch = random_batch(50, table, seed, names=5 + seed)
        sent.append(batch)
        await asyncio.to_thread(forwarder.put, batch)
        await asyncio.sleep(0.01)
        if seed % 8 == 5:
            await until(lambda seed=seed: forwarder.stats.connects > seed // 8)
            agent = relay.ingest._agents.get("real")
            if agent is not None and agent.stream is not None:
                agent.stream.replaced.set()  # cuts the connection
    assert await forwarder.flush(60) == 0
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    stored = {g.token: g for g in relay.committer.groups}
    rows = [r for g in stored.values() for b in g.batches for r in b.rows()]
    assert rows == [r for b in sent for r in b.rows()]
    assert len(stored) == len(relay.committer.groups)
    assert relay.dictionary.generation > 1
    assert forwarder.stats.connects > 2
