"""Takes records from agents: live subscribers see them at once, the store gets closed groups."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from flowobs import schema
from flowobs._proto.flowobs.v1 import flow_pb2 as pb
from flowobs.batch import FlowBatch, is_nothing
from flowobs.wire import MAX_MESSAGE_BYTES, WireError, parse
from relay.committer import Committer, Group
from relay.dictionary import AgentDictionary, Dictionary
from relay.metrics import RelayMetrics

log = logging.getLogger(__name__)

SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
    # What an agent may send before it is read: left to itself, gRPC lets some 10 MB of each come.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 256 * 1024),
]
"""For the grpc.aio server that serves :meth:`Ingest.handler`."""

MAX_GROUP_ROWS = 100_000
MAX_AGENTS = 4096
_MAX_NAME = 253
_MAX_SPAN_NS = 7 * 86400 * 1_000_000_000
_BATCHES_PER_SECOND = 1000
_NAMES_TOLD_NS = 10_000_000_000

_Context = grpc.aio.ServicerContext[bytes, pb.RelayMessage]


class Hub(Protocol):
    """Where live subscribers get records from; must not block or raise."""

    def publish(self, batch: FlowBatch, resent: bool) -> None: ...


@dataclass(slots=True)
class AgentStatus:
    """What the relay knows of one agent. ``last_seen`` is nanoseconds since 1970."""

    agent: str
    node: str
    version: str
    connected: bool
    last_seen: int
    rows: int
    lost: int
    names_age_s: int = 0
    """How old the oldest names on its latest records were; 0: they were up to date."""
    names_told: int = 0
    """When that was told, in nanoseconds since 1970."""


class _Refused(Exception):
    """The stream has to end; the text tells the agent why."""

    def __init__(self, code: grpc.StatusCode, reason: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason


@dataclass(eq=False, slots=True)
class _Agent:
    """One agent's epoch. Outlives its streams, so that a resent group is recognised."""

    status: AgentStatus
    epoch: int
    dictionary: AgentDictionary
    submitted: int = 0
    stored: int = 0
    stream: _Stream | None = None


@dataclass(eq=False, slots=True)
class _Stream:
    ack: asyncio.Event = field(default_factory=asyncio.Event)
    replaced: asyncio.Event = field(default_factory=asyncio.Event)


class _Open:
    """The group that a stream is in the middle of."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.batches: list[FlowBatch] = []
        self.rows = 0
        self._first = self._last = 0

    def add(self, batch: FlowBatch) -> None:
        """Raises WireError where the group would be too large or spread over too many days."""
        if not len(batch):
            return
        times = batch.columns["time"]
        first, last = int(times.min()), int(times.max())
        if self.batches:
            first, last = min(first, self._first), max(last, self._last)
        # Each day is a partition of the store; one insert may touch only a few.
        if first < 0 or last - first > _MAX_SPAN_NS:
            raise WireError("the times in a group are before 1970 or more than 7 days apart")
        if self.rows + len(batch) > MAX_GROUP_ROWS:
            raise WireError(f"group {self.number} has more than {MAX_GROUP_ROWS} rows")
        self._first, self._last = first, last
        self.rows += len(batch)
        self.batches.append(batch)


class Ingest:
    """The gRPC service agents stream to; for a server made with SERVER_OPTIONS.

    While the committer is full nothing is read; gRPC's flow control then stops the agents.
    """

    def __init__(
        self,
        hub: Hub,
        committer: Committer,
        metrics: RelayMetrics,
        *,
        version: str,
        dictionary: Dictionary | None = None,
        max_agents: int = MAX_AGENTS,
    ) -> None:
        self._hub = hub
        self._committer = committer
        self._metrics = metrics
        self._version = version
        self._dictionary = dictionary or Dictionary()
        self._max_agents = max_agents
        self._agents: dict[str, _Agent] = {}
        self._connected = 0
        self._told_duplicate: set[str] = set()

    @property
    def agents(self) -> list[AgentStatus]:
        """All agents known, connected or not, by name."""
        return [self._agents[name].status for name in sorted(self._agents)]

    def handler(self) -> grpc.GenericRpcHandler:
        """For ``server.add_generic_rpc_handlers``."""
        # Bytes go in: a malformed message is then an answer and a count, not an error inside gRPC.
        method: Any = grpc.stream_stream_rpc_method_handler(
            self._serve, None, pb.RelayMessage.SerializeToString
        )
        return grpc.method_handlers_generic_handler("flowobs.v1.Ingest", {"Stream": method})

    async def _serve(self, _: Any, context: _Context) -> None:
        try:
            agent = self._admit(await _next(context))
        except _Refused as refusal:
            await self._end(context, refusal, "an agent")
            return
        stream = agent.stream = _Stream()
        self._count_connected(+1)
        agent.status.connected = True
        tasks: set[asyncio.Task[Any]] = set()
        try:
            welcome = pb.Welcome(stored_group=agent.stored, version=self._version)
            await context.write(pb.RelayMessage(welcome=welcome))
            tasks = {
                asyncio.create_task(self._read(context, agent)),
                asyncio.create_task(self._acknowledge(context, agent, stream)),
                asyncio.create_task(stream.replaced.wait()),
            }
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if stream.replaced.is_set():
                raise _Refused(
                    grpc.StatusCode.ALREADY_EXISTS,
                    "duplicate_agent",
                    f"another agent with the name {agent.status.agent} has connected: give each"
                    " agent a name of its own",
                )
        except _Refused as refusal:
            await self._end(context, refusal, agent.status.agent)
        finally:
            # Counted before anything is awaited: a cancelled stream often ends by itself as well,
            # and the cancellation then arrives in here.
            self._count_connected(-1)
            if agent.stream is stream:
                agent.stream = None
                if self._agents.get(agent.status.agent) is agent:  # no later one has its name
                    agent.status.connected = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, context: _Context, refusal: _Refused, who: str) -> None:
        self._metrics.refused.labels(refusal.reason).inc()
        if refusal.reason != "duplicate_agent" or who not in self._told_duplicate:
            log.warning("stream of %s ended: %s", who, refusal)
        if refusal.reason == "duplicate_agent" and len(self._told_duplicate) < self._max_agents:
            self._told_duplicate.add(who)
        await context.abort(refusal.code, str(refusal))

    def _count_connected(self, change: int) -> None:
        self._connected += change
        self._metrics.agents_connected.set(self._connected)

    def _admit(self, message: pb.AgentMessage | None) -> _Agent:
        hello = message.hello if message is not None else pb.Hello()
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        name = hello.agent
        if not name or len(name) > _MAX_NAME or not name.isprintable() or not hello.epoch:
            raise _Refused(
                invalid,
                "hello",
                f"the first message must be a Hello with an epoch and a printable name of at most"
                f" {_MAX_NAME} characters",
            )
        if hello.schema_version != schema.SCHEMA_VERSION:
            raise _Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                "schema_version",
                f"agent {name} has schema version {hello.schema_version}, this relay has"
                f" {schema.SCHEMA_VERSION}: install the same flowobs release on both",
            )
        known = self._agents.get(name)
        if known is not None and known.stream is not None:
            if hello.epoch < known.epoch:
                raise _Refused(
                    grpc.StatusCode.ALREADY_EXISTS,
                    "duplicate_agent",
                    f"an agent with the name {name} that started later is connected: give each"
                    " agent a name of its own",
                )
            known.stream.replaced.set()
        if known is None:
            self._make_room(name)
        if known is None or known.epoch != hello.epoch:
            status = known.status if known is not None else AgentStatus(name, "", "", True, 0, 0, 0)
            before = self._committer.stored(name, hello.epoch)
            known = _Agent(status, hello.epoch, self._dictionary.agent(), before, before)
            self._agents[name] = known
        known.status.node = hello.node[:_MAX_NAME]
        known.status.version = hello.version[:_MAX_NAME]
        known.status.last_seen = time.time_ns()
        return known

    def _make_room(self, name: str) -> None:
        if len(self._agents) < self._max_agents:
            return
        gone = [a for a in self._agents.values() if a.stream is None and a.stored == a.submitted]
        if not gone:
            raise _Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "too_many_agents",
                f"the relay serves {self._max_agents} agents already: {name} needs another one",
            )
        del self._agents[min(gone, key=lambda a: a.status.last_seen).status.agent]

    async def _read(self, context: _Context, agent: _Agent) -> None:
        group: _Open | None = None
        while (message := await _next(context)) is not None:
            agent.status.last_seen = time.time_ns()
            try:
                kind = message.WhichOneof("message")
                if kind == "dictionary":
                    agent.dictionary.learn(message.dictionary)
                elif kind == "batch":
                    group = await self._take(agent, group, message.batch, message.resent)
            except WireError as error:
                raise _Refused(
                    grpc.StatusCode.INVALID_ARGUMENT, "malformed", f"malformed message: {error}"
                ) from None

    async def _take(
        self, agent: _Agent, group: _Open | None, data: bytes, resent: bool
    ) -> _Open | None:
        micro = parse(data)
        number = micro.group
        self._metrics.batches_received.inc()
        if group is not None and group.number <= agent.submitted:
            group = None  # the stream that this one replaces came to submit it after all
        if number <= agent.submitted:
            # It came on an earlier stream: stored, or on its way into the store.
            if micro.close:
                self._metrics.groups_resent.inc()
                self._wake(agent)
            return group
        if group is None:
            group = _Open(number)
        if group.number != number:
            raise WireError(f"batch of group {number} while group {group.number} is open")
        batch = agent.dictionary.decode(micro)
        group.add(batch)
        if len(batch):
            self._count(agent, batch)
            self._hub.publish(batch, resent)
        if not micro.close:
            return group
        await self._submit(agent, group)
        return None

    def _count(self, agent: _Agent, batch: FlowBatch) -> None:
        self._metrics.records_received.inc(len(batch))
        self._metrics.batch_rows.observe(len(batch))
        agent.status.rows += len(batch)
        told = batch.columns["kind"] == schema.Kind.lost
        if told.any():
            agent.status.lost += int(batch.columns["lost"][told].sum())
        ages = (batch.columns["src_identity_age"], batch.columns["dst_identity_age"])
        age = max(0 if is_nothing(column) else int(column.max()) for column in ages)
        status, now = agent.status, time.time_ns()
        # a batch without any name from the source in question says nothing of it
        if age or now - status.names_told > _NAMES_TOLD_NS:
            status.names_age_s, status.names_told = age, now

    async def _submit(self, agent: _Agent, group: _Open) -> None:
        def stored() -> None:
            agent.stored = max(agent.stored, group.number)
            self._wake(agent)

        await self._committer.submit(
            Group(agent.status.agent, agent.epoch, group.number, group.batches, group.rows, stored)
        )
        agent.submitted = group.number

    def _wake(self, agent: _Agent) -> None:
        if agent.stream is not None:
            agent.stream.ack.set()

    async def _acknowledge(self, context: _Context, agent: _Agent, stream: _Stream) -> None:
        while True:
            await stream.ack.wait()
            stream.ack.clear()
            ack = pb.Ack(
                group=agent.stored,
                batch_interval_ms=max(100, 1000 * self._connected // _BATCHES_PER_SECOND),
                group_interval_ms=self._committer.group_interval_ms(self._connected),
            )
            await context.write(pb.RelayMessage(ack=ack))


async def _next(context: _Context) -> pb.AgentMessage | None:
    """The stream's next message; None at its end. Raises _Refused for what is no message."""
    data: object = await context.read()
    if not isinstance(data, bytes):  # grpc.aio.EOF
        return None
    try:
        return pb.AgentMessage.FromString(data)
    except DecodeError as error:
        raise _Refused(
            grpc.StatusCode.INVALID_ARGUMENT, "malformed", f"not an AgentMessage: {error}"
        ) from None
