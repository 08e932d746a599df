from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest

from flowobs import schema, wire
from flowobs._proto.flowobs.v1 import flow_pb2 as pb
from flowobs.agent import forward
from flowobs.agent.forward import Forwarder, Tls, check_target, table_full
from flowobs.agent.spill import Spill
from flowobs.batch import Endpoint
from flowobs.wire import Decoder
from tests.busy import within
from tests.flow_factory import new_table, random_batch


class FakeRelay:
    """Records what agents send; switches make it slow, forgetful or rude."""

    def __init__(self, path: Path) -> None:
        self.target = f"unix://{path}"
        self.hellos: list[pb.Hello] = []
        self.batches: list[tuple[int, pb.MicroBatch, bytes, bool]] = []
        self.rows: list[dict] = []
        self.stored: dict[int, int] = {}
        self.ack = True
        self.refuse: grpc.StatusCode | None = None
        self.advice = (0, 0)
        self.server: grpc.aio.Server | None = None

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.server = grpc.aio.server()
        method = grpc.stream_stream_rpc_method_handler(
            self.serve, pb.AgentMessage.FromString, pb.RelayMessage.SerializeToString
        )
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("flowobs.v1.Ingest", {"Stream": method}),)
        )
        if credentials is None:
            self.server.add_insecure_port(self.target)
        else:
            port = self.server.add_secure_port("localhost:0", credentials)
            self.target = f"localhost:{port}"
        await self.server.start()

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop(0)

    async def serve(self, _, context) -> None:
        hello = (await context.read()).hello
        self.hellos.append(hello)
        epoch, decoder = hello.epoch, Decoder(new_table())
        welcome = pb.Welcome(stored_group=self.stored.get(epoch, 0))
        await context.write(pb.RelayMessage(welcome=welcome))
        while (message := await context.read()) is not grpc.aio.EOF:
            if self.refuse is not None:
                await context.abort(self.refuse, "malformed message: test")
            if message.WhichOneof("message") == "dictionary":
                decoder.dictionary(message.dictionary)
                continue
            micro = wire.parse(message.batch)
            self.batches.append((epoch, micro, message.batch, message.resent))
            self.rows.extend(decoder.batch(micro).rows())
            if micro.close and self.ack:
                self.stored[epoch] = micro.group
                batch_ms, group_ms = self.advice
                ack = pb.Ack(
                    group=micro.group, batch_interval_ms=batch_ms, group_interval_ms=group_ms
                )
                await context.write(pb.RelayMessage(ack=ack))


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[FakeRelay]:
    fake = FakeRelay(tmp_path / "relay.sock")
    await fake.start()
    yield fake
    await fake.stop()


@contextlib.asynccontextmanager
async def running(relay: FakeRelay, **options) -> AsyncIterator[Forwarder]:
    defaults = {"batch_interval": 0.01, "group_interval": 0.05}
    forwarder = Forwarder(
        relay.target, agent="a1", node="n1", version="1.2.3", **(defaults | options)
    )
    task = asyncio.create_task(forwarder.run())
    yield forwarder
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def in_thread(function: Callable[..., object], *args: object) -> Awaitable[object]:
    return asyncio.to_thread(function, *args)


async def test_records_arrive_with_their_names_and_are_freed_when_stored(relay):
    table = new_table()
    sent = [random_batch(5, table, seed) for seed in range(3)]
    async with running(relay) as forwarder:
        for batch in sent:
            await in_thread(forwarder.put, batch)
            await asyncio.sleep(0.03)
        assert await forwarder.flush(60) == 0
        assert forwarder.stats.connected

    assert relay.rows == [row for batch in sent for row in batch.rows()]
    assert (forwarder.stats.stored_records, forwarder.spool_bytes) == (15, 0)
    hello = relay.hellos[0]
    assert (hello.agent, hello.node, hello.version) == ("a1", "n1", "1.2.3")
    assert hello.schema_version == schema.SCHEMA_VERSION
    assert hello.epoch > 0
    assert not any(resent for _, _, _, resent in relay.batches)


async def test_the_first_record_after_a_pause_goes_out_at_once(relay):
    async with running(relay, batch_interval=1) as forwarder:
        await until(lambda: forwarder.stats.connected)
        await asyncio.sleep(1.1)
        with within(0.9):
            await in_thread(forwarder.put, random_batch(1, new_table()))
            await until(lambda: relay.batches)


@pytest.mark.parametrize("turns", range(6))
async def test_it_ends_whenever_in_its_work_it_is_cancelled(relay, turns):
    table = new_table()
    forwarder = Forwarder(relay.target, agent="a1", node="n1", version="1.2.3", batch_interval=0.01)
    sending = asyncio.create_task(forwarder.run())
    forwarder.put(random_batch(1, table))
    await until(lambda: relay.batches)
    await asyncio.sleep(0.05)  # nothing is left to do but wait for records, or for the group's end
    forwarder.put(random_batch(1, table))
    for _ in range(turns):
        await asyncio.sleep(0)
    sending.cancel()
    ended, _ = await asyncio.wait({sending}, timeout=60)
    assert ended


async def test_unacknowledged_groups_are_sent_again_to_the_byte(relay, monkeypatch):
    monkeypatch.setattr(forward, "_BACKOFF_FIRST", 0.01)
    relay.ack = False
    async with running(relay, group_rows=10) as forwarder:
        await in_thread(forwarder.put, random_batch(35, new_table()))
        await until(lambda: len([b for b in relay.batches if b[1].close]) == 4)
        first = [data for _, _, data, _ in relay.batches]
        epoch = relay.hellos[0].epoch
        await relay.stop()
        relay.batches.clear()
        relay.ack = True
        relay.stored[epoch] = 2  # these acks were lost
        await relay.start()
        assert await forwarder.flush(60) == 0
    again = relay.batches
    assert [data for _, _, data, _ in again] == first[2:]
    assert {micro.group for _, micro, _, _ in again} == {3, 4}
    assert all(resent for _, _, _, resent in again)


async def test_it_keeps_records_while_the_relay_is_away_and_says_so_once(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(forward, "_BACKOFF_FIRST", 0.01)
    caplog.set_level(logging.INFO, logger="flowobs.agent.forward")
    relay = FakeRelay(tmp_path / "relay.sock")
    batch = random_batch(20, new_table())
    async with running(relay) as forwarder:
        await in_thread(forwarder.put, batch)
        await until(lambda: forwarder.stats.error)
        await asyncio.sleep(0.3)  # it tries again and again
        assert forwarder.spool_records == 20
        await relay.start()
        assert await forwarder.flush(60) == 0
        assert forwarder.stats.error == ""
    await relay.stop()
    assert relay.rows == list(batch.rows())
    assert not any(resent for _, _, _, resent in relay.batches)
    assert [r.message.split(" ")[0] for r in caplog.records] == ["no", "the"]


async def test_it_sends_from_disk_what_memory_had_no_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(forward, "_BACKOFF_FIRST", 0.01)
    relay = FakeRelay(tmp_path / "relay.sock")
    table = new_table()
    batches = [random_batch(200, table, seed) for seed in range(30)]
    spill = Spill(tmp_path / "spool", 16 << 20)
    async with running(relay, spill=spill, max_bytes=300_000, group_rows=200) as forwarder:
        for batch in batches:
            await in_thread(forwarder.put, batch)
            await until(lambda: forwarder.spool_bytes <= 150_000)
        assert forwarder.spool_disk_bytes > 300_000
        await relay.start()
        assert await forwarder.flush(60) == 0
        assert forwarder.spool_disk_bytes == 0
    await relay.stop()
    assert relay.rows == [row for batch in batches for row in batch.rows()]
    spill.close()


async def test_a_new_table_is_a_new_epoch_on_a_stream_of_its_own(relay):
    old, new = random_batch(5, new_table(), 1), random_batch(6, new_table(), 2)
    async with running(relay) as forwarder:
        await in_thread(forwarder.put, old)
        await in_thread(forwarder.put, new)
        assert await forwarder.flush(60) == 0
    assert relay.rows == [*old.rows(), *new.rows()]
    first, second = (hello.epoch for hello in relay.hellos)
    assert second > first
    assert [(epoch, m.group) for epoch, m, _, _ in relay.batches if m.close] == [
        (first, 1),
        (second, 1),
    ]


async def test_a_group_the_relay_calls_malformed_blocks_the_others_only_twice(relay, monkeypatch):
    monkeypatch.setattr(forward, "_BACKOFF_FIRST", 0.01)
    relay.refuse = grpc.StatusCode.INVALID_ARGUMENT
    table = new_table()
    async with running(relay) as forwarder:
        await in_thread(forwarder.put, random_batch(7, table, kind=int(schema.Kind.open)))
        await until(lambda: forwarder.dropped.get("refused") == 7)
        relay.refuse = None
        await in_thread(forwarder.put, random_batch(2, table, kind=int(schema.Kind.open)))
        assert await forwarder.flush(60) == 0
    assert [r["lost"] for r in relay.rows if r["kind"] == "lost"] == [7]


async def test_what_cannot_be_delivered_at_shutdown_is_counted(tmp_path):
    relay = FakeRelay(tmp_path / "nobody.sock")
    async with running(relay) as forwarder:
        batch = random_batch(9, new_table(), kind=int(schema.Kind.open))
        await in_thread(forwarder.put, batch)
        assert await forwarder.flush(0.2) == 9
    assert forwarder.dropped == {"shutdown": 9}


async def test_it_slows_down_to_what_acks_advise_and_no_further_than_sensible(relay):
    relay.advice = (500, 60_000)
    async with running(relay) as forwarder:
        await in_thread(forwarder.put, random_batch(1, new_table()))
        await until(lambda: forwarder.stats.stored_records == 1)
        assert forwarder.batch_interval == 0.5
        assert forwarder._spool.group_interval == forward._SLOWEST_GROUP


def test_put_works_before_run_and_never_waits():
    forwarder = Forwarder("unix:///nowhere", agent="a", node="n", version="0", max_bytes=100_000)
    table = new_table()
    for seed in range(50):
        forwarder.put(random_batch(100, table, seed, kind=int(schema.Kind.open)))
    assert forwarder.spool_bytes <= 100_000
    assert forwarder.spool_records + forwarder.dropped["spool_full"] == 5000


async def test_tls_shows_both_sides_who_the_other_is(tmp_path):
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        " -keyout key.pem -out cert.pem 2>&1"
    )
    made = await asyncio.create_subprocess_shell(command, cwd=tmp_path, stdout=PIPE)
    said, _ = await made.communicate()
    assert made.returncode == 0, said
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    relay = FakeRelay(tmp_path / "unused.sock")
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())], cert.read_bytes(), require_client_auth=True
    )
    await relay.start(credentials)
    batch = random_batch(5, new_table())
    async with running(relay, tls=Tls(cert, cert, key)) as forwarder:
        await in_thread(forwarder.put, batch)
        assert await forwarder.flush(60) == 0
    await relay.stop()
    assert relay.rows == list(batch.rows())


@pytest.mark.parametrize(
    "target", ["127.0.0.1:4243", "localhost:4243", "[::1]:4243", "unix:///run/flowobs.sock"]
)
def test_this_machine_needs_no_tls(target):
    check_target(target, None, insecure=False)


def test_another_machine_needs_tls_or_a_flag_that_says_insecure():
    with pytest.raises(ValueError, match="--tls-ca"):
        check_target("relay.example:4243", None, insecure=False)
    check_target("relay.example:4243", None, insecure=True)
    check_target("relay.example:4243", Tls(Path("ca.pem")), insecure=False)
    with pytest.raises(ValueError, match="give both"):
        check_target("relay.example:4243", Tls(Path("ca"), cert=Path("c")), insecure=False)


def test_a_large_table_is_to_be_replaced(monkeypatch):
    monkeypatch.setattr(forward, "MAX_TABLE_ROWS", 3)
    table = new_table()
    assert not table_full(table)
    for name in "abc":
        table.id(Endpoint(name=name))
    assert table_full(table)
