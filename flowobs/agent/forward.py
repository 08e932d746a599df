"""Sends records to the relay: micro-batches at once, commit groups again until they are stored."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from flowobs import schema
from flowobs._proto.flowobs.v1 import flow_pb2 as pb
from flowobs.agent.spill import Spill
from flowobs.agent.spool import Epoch, Spool
from flowobs.batch import Endpoints, FlowBatch
from flowobs.wire import MAX_MESSAGE_BYTES, MAX_ROWS, Encoder, batch_message

log = logging.getLogger(__name__)

MAX_TABLE_ROWS = 60_000

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # We wait between attempts ourselves; the channel must not wait longer on its own.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
_WELCOME_TIMEOUT = 10.0
_BACKOFF_FIRST, _BACKOFF_MOST = 0.2, 10.0
_STUMBLES, _REFUSALS = 2, 2
_CAREFUL_PAUSE = 0.1
_SLOWEST_BATCH, _SLOWEST_GROUP = 2.0, 30.0
_ENOUGH = 0.8
"""Of an interval: who puts once in each, give or take, is never made to wait for its end."""

_Call = grpc.aio.StreamStreamCall[Any, pb.RelayMessage]


def table_full(endpoints: Endpoints) -> bool:
    """Whether the agent should go on with a new table: batches of a new one begin a new epoch."""
    return len(endpoints) > MAX_TABLE_ROWS or len(endpoints.strings) > MAX_TABLE_ROWS


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the connection's TLS. ``cert`` and ``key`` show the relay who we are."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None


@dataclass(slots=True)
class ForwardStats:
    """Counters of a Forwarder, for metrics and status."""

    sent_batches: int = 0
    stored_records: int = 0
    connects: int = 0
    connected: bool = False
    error: str = ""


def check_target(target: str, tls: Tls | None, insecure: bool) -> None:
    """Raises ValueError where ``target`` is off this machine, without TLS and not ``insecure``."""
    if tls is not None:
        if (tls.cert is None) != (tls.key is None):
            raise ValueError("a TLS certificate needs its key: give both --tls-cert and --tls-key")
        return
    if insecure or target.startswith("unix:"):
        return
    host = target.rpartition(":")[0].strip("[]")
    with contextlib.suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return
    raise ValueError(
        f"the relay {target} is not on this machine: give --tls-ca to encrypt what is sent there,"
        " or --insecure to send it in plain text"
    )


def open_channel(target: str, tls: Tls | None) -> grpc.aio.Channel:
    """A channel to the relay; to be made in the event loop that uses it."""
    if tls is None:
        return grpc.aio.insecure_channel(target, _CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        tls.ca.read_bytes(),
        tls.key.read_bytes() if tls.key else None,
        tls.cert.read_bytes() if tls.cert else None,
    )
    return grpc.aio.secure_channel(target, credentials, _CHANNEL_OPTIONS)


class Forwarder:
    """Delivers batches to a relay: at least once over the wire, exactly once in the store.

    ``put`` takes batches from one thread; ``run`` sends them from an event loop until cancelled.
    Intervals are seconds; the relay's acks advise longer ones when it serves many agents.
    ``on_drop(reason, records)`` hears of every record given up, at once; it must not block.
    Raises ValueError for a target off this machine without TLS or ``insecure``.
    """

    def __init__(
        self,
        target: str,
        *,
        agent: str,
        node: str,
        version: str,
        max_bytes: int = 64 * 1024 * 1024,
        batch_interval: float = 0.125,
        group_interval: float = 1.0,
        group_rows: int = 10_000,
        tls: Tls | None = None,
        insecure: bool = False,
        spill: Spill | None = None,
        on_drop: Callable[[str, int], None] = lambda reason, records: None,
    ) -> None:
        check_target(target, tls, insecure)
        self.stats = ForwardStats()
        self._target = target
        self._tls = tls
        self._agent, self._node, self._version = agent, node, version
        self.batch_interval = batch_interval
        """Seconds between micro-batches, as the relay advises: to ``put`` sooner is no use."""
        self._own_intervals = (batch_interval, group_interval)
        self._spool = Spool(
            node=node,
            max_bytes=max_bytes,
            group_interval=group_interval,
            group_rows=min(group_rows, MAX_ROWS - 1),
            spill=spill,
            on_drop=on_drop,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = threading.Event()
        self._wake = asyncio.Event()
        self._more = asyncio.Event()
        self._stored = asyncio.Event()
        self._hurry = asyncio.Event()
        self._attempts = 0
        self._stumbles = 0  # streams in a row that ended before anything was stored
        self._refusals = 0  # those of which the relay said that the data was malformed
        self._lost_at: float | None = None

    @property
    def spool_bytes(self) -> int:
        """Memory held by records that the relay has not stored yet."""
        return self._spool.bytes

    @property
    def spool_disk_bytes(self) -> int:
        """Disk held by records that the relay has not stored yet."""
        return self._spool.disk_bytes

    @property
    def spool_records(self) -> int:
        """Records that the relay has not stored yet."""
        return self._spool.rows

    @property
    def dropped(self) -> dict[str, int]:
        """Records given up so far, by reason."""
        return dict(self._spool.dropped)

    def put(self, batch: FlowBatch) -> None:
        """Take records over from the pipeline's thread; never waits for the relay.

        A batch of another endpoint table than the last one's begins a new epoch.
        """
        self._spool.put(batch)
        loop = self._loop
        if loop is not None and not self._woken.is_set():
            self._woken.set()
            with contextlib.suppress(RuntimeError):  # the loop is closed: the agent is going down
                loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Send what is put, until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._wake.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._cut())
            tasks.create_task(self._deliver())

    async def flush(self, patience: float) -> int:
        """Close the open group, wait up to ``patience`` seconds; the records not stored by then.

        Those are counted as dropped for "shutdown": nobody will send them.
        """
        deadline = time.monotonic() + patience
        self._spool.cut(close=True)
        self._more.set()
        self._hurry.set()
        while not self._spool.empty and (left := deadline - time.monotonic()) > 0:
            self._stored.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._stored.wait()
        lost = self._spool.drop_all("shutdown")
        if lost:
            log.warning("%d records were not delivered to the relay %s", lost, self._target)
        return lost

    async def _cut(self) -> None:
        last = -math.inf
        while True:
            # not wait_for: Python 3.11's forgets a cancellation that comes with what it waits for
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._spool.close_in()):
                    await self._wake.wait()
            early = last + _ENOUGH * self.batch_interval - time.monotonic()
            if early > 0:
                await asyncio.sleep(early)
            last = time.monotonic()
            self._wake.clear()
            self._woken.clear()
            self._spool.cut()
            self._more.set()

    async def _deliver(self) -> None:
        channel = open_channel(self._target, self._tls)
        try:
            while True:
                try:
                    await self._stream(channel, self._spool.head)
                    continue
                except _Disconnected as error:
                    self._failed(error)
                finally:
                    self.stats.connected = False
                most = min(_BACKOFF_MOST, _BACKOFF_FIRST * 2 ** min(self._attempts, 16))
                self._attempts += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(random.uniform(0, most)):
                        await self._hurry.wait()
                self._hurry.clear()
        finally:
            await channel.close(None)

    async def _stream(self, channel: grpc.aio.Channel, epoch: Epoch) -> None:
        """One stream; it serves one epoch, and ends when all of a finished epoch is stored.

        Raises _Disconnected.
        """
        call: _Call = channel.stream_stream(
            "/flowobs.v1.Ingest/Stream",
            request_serializer=None,  # it gets bytes
            response_deserializer=pb.RelayMessage.FromString,
        )(None)
        try:
            await self._greet(call, epoch)
            tasks = {
                asyncio.create_task(self._send(call, epoch)),
                asyncio.create_task(self._read(call, epoch)),
            }
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()
        except grpc.aio.AioRpcError as error:
            raise _Disconnected(error.code(), error.details()) from None
        except (asyncio.InvalidStateError, grpc.aio.UsageError):
            # A write to a call that has ended meanwhile: its status says why.
            raise _Disconnected(await call.code(), await call.details()) from None
        except TimeoutError:
            raise _Disconnected(None, f"no answer within {_WELCOME_TIMEOUT:.0f} s") from None
        finally:
            call.cancel()

    async def _greet(self, call: _Call, epoch: Epoch) -> None:
        hello = pb.Hello(
            agent=self._agent,
            epoch=epoch.number,
            node=self._node,
            version=self._version,
            schema_version=schema.SCHEMA_VERSION,
        )
        await call.write(pb.AgentMessage(hello=hello).SerializeToString())
        async with asyncio.timeout(_WELCOME_TIMEOUT):
            answer = await call.read()
        if not isinstance(answer, pb.RelayMessage):
            raise _Disconnected(None, "the relay ended the stream")
        self.stats.connected = True
        self.stats.connects += 1
        self._free(epoch, answer.welcome.stored_group)
        if self._spool.empty:
            self._healthy()

    async def _send(self, call: _Call, epoch: Epoch) -> None:
        encoder: Encoder | None = None
        group, index = 0, 0
        while not epoch.drained:
            self._more.clear()
            taken = self._spool.take(epoch, group, index)
            if taken is None:
                await self._more.wait()
                continue
            current, micro, resent = taken
            index = index + 1 if current.number == group else 1
            group = current.number
            try:
                data = self._spool.read(micro)
            except OSError as error:
                lost = self._spool.drop(epoch, current, "spool_disk")
                log.error("%d records are lost: %s", lost, error)
                # the relay forgets what it has of a group when the stream ends
                raise _Disconnected(None, "the spool's disk failed") from None
            if encoder is None:
                assert epoch.endpoints is not None
                encoder = Encoder(epoch.endpoints)
            for dictionary in encoder.pending(micro.mark):
                message = pb.AgentMessage(dictionary=dictionary)
                await self._write(call, message.SerializeToString())
            await self._write(call, batch_message(data, resent=resent))
            self.stats.sent_batches += 1

    async def _write(self, call: _Call, message: bytes) -> None:
        await call.write(message)
        if self._stumbles >= _STUMBLES:
            # grpc.aio replaces the relay's status by "Internal error" when a write meets it
            # (grpc issue 36066): time to hear what the relay has to say.
            await asyncio.sleep(_CAREFUL_PAUSE)

    async def _read(self, call: _Call, epoch: Epoch) -> None:
        while isinstance(message := await call.read(), pb.RelayMessage):
            ack = message.ack
            self._free(epoch, ack.group)
            self._take_advice(ack.batch_interval_ms / 1000, ack.group_interval_ms / 1000)
            self._healthy()
        raise _Disconnected(await call.code(), await call.details() or "the relay ended the stream")

    def _free(self, epoch: Epoch, group: int) -> None:
        self.stats.stored_records += self._spool.ack(epoch, group)
        self._stored.set()
        self._more.set()

    def _take_advice(self, batch: float, group: float) -> None:
        """Slow down to what the relay asks for, within reason; never get faster than configured."""
        own_batch, own_group = self._own_intervals
        self.batch_interval = max(own_batch, min(batch, _SLOWEST_BATCH))
        self._spool.group_interval = max(own_group, min(group, _SLOWEST_GROUP))

    def _healthy(self) -> None:
        self._attempts = self._refusals = self._stumbles = 0
        if self._lost_at is not None:
            away = time.monotonic() - self._lost_at
            log.warning("the relay %s takes records again after %.1f s", self._target, away)
        self._lost_at = None
        self.stats.error = ""

    def _failed(self, error: _Disconnected) -> None:
        self.stats.error = str(error)
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            log.warning(
                "no connection to the relay %s (%s): up to %d MiB of records wait for it",
                self._target,
                error,
                self._spool.max_bytes >> 20,
            )
        self._stumbles += self.stats.connected
        if error.code is grpc.StatusCode.INVALID_ARGUMENT:
            # The relay stumbles over the first group not stored: it must not block all others.
            self._refusals += 1
            if self._refusals >= _REFUSALS:
                self._refusals = 0
                lost = self._spool.drop_first(self._spool.head, "refused")
                log.error("the relay refused %d records: %s", lost, error)


class _Disconnected(Exception):
    """The stream is over; the text says why."""

    def __init__(self, code: grpc.StatusCode | None, reason: str | None) -> None:
        super().__init__(reason or (code.name if code is not None else "unknown"))
        self.code = code
