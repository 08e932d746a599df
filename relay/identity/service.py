"""The gRPC service that agents get names from, and how far each of them is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from flowobs._proto.flowobs.v1 import identity_pb2 as pb
from flowobs.kubernetes.freshness import ResourceState
from relay.identity.journal import Journal
from relay.ingest import MAX_AGENTS

log = logging.getLogger(__name__)

TICK_S: Final = 0.1
"""Changes within such a time make one delta."""
BEAT_S: Final = 5.0
"""How often agents are told how fresh it all is."""
_AT_ONCE: Final = 16
"""Deltas taken from the journal at once: a stream that stands still keeps no more of them."""
_MAX_NAME: Final = 253

_Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(eq=False, slots=True)
class Follower:
    """An agent's stream. Versions are the journal's; ``since`` is nanoseconds since 1970."""

    agent: str
    node: str
    since: int
    sent: int = 0
    """Told up to here; 0 before a snapshot."""
    applied: int = 0
    """In the agent's table, as it says."""
    snapshots: int = 0
    beat: int = field(default=0, repr=False)


class IdentityService:
    """Tells agents what ``journal`` holds. ``run`` makes deltas and tells of freshness.

    A follower is a position in the journal, and nothing is kept for it: one that does not read
    costs nothing, and gets a snapshot once the journal has gone on without it.
    """

    def __init__(
        self,
        journal: Journal,
        states: Callable[[], Sequence[ResourceState]],
        *,
        max_agents: int = MAX_AGENTS,
    ) -> None:
        self.followers: set[Follower] = set()
        self.snapshots = 0
        """Times that an agent was told all there is."""
        self.resumed = 0
        """Streams that went on where an earlier one ended."""
        self._journal = journal
        self._states = states
        self._max_agents = max_agents
        self._news = asyncio.Event()
        self._beat, self._beats = b"", 0

    def handler(self) -> grpc.GenericRpcHandler:
        """For ``server.add_generic_rpc_handlers``."""
        # bytes go out: a message is made once for all agents
        method: Any = grpc.stream_stream_rpc_method_handler(self._serve, None, None)
        return grpc.method_handlers_generic_handler("flowobs.v1.Identity", {"Stream": method})

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        due, doubts = loop.time(), self._doubts()
        while True:
            news = self._journal.flush()
            if loop.time() >= due or doubts != self._doubts():
                due, doubts = loop.time() + BEAT_S, self._doubts()
                self._tell_freshness()
                news = True
            if news:
                self._wake()
            await asyncio.sleep(TICK_S)

    def _doubts(self) -> list[tuple[bool, str]]:
        """What is told at once when it changes."""
        return [(state.stale, state.problem) for state in self._states()]

    def _tell_freshness(self) -> None:
        told = pb.Freshness(
            epoch=self._journal.epoch,
            version=self._journal.version,
            resources=[
                pb.ResourceFreshness(
                    resource=state.resource,
                    objects=state.objects,
                    age_ms=int(state.age * 1000),
                    stale=state.stale,
                    problem=state.problem,
                )
                for state in self._states()
                if not state.off
            ],
        )
        self._beat = pb.IdentityMessage(freshness=told).SerializeToString()
        self._beats += 1

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _serve(self, _: Any, context: _Context) -> None:
        follower, resume = await self._admit(context)
        if resume.epoch == self._journal.epoch and self._journal.covers(resume.version):
            follower.sent = follower.applied = resume.version
            self.resumed += 1
        self.followers.add(follower)
        reading = asyncio.create_task(self._read(context, follower))
        sending = asyncio.create_task(self._send(context, follower))
        try:
            done, _pending = await asyncio.wait(
                {reading, sending}, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            self.followers.discard(follower)
            for task in (reading, sending):
                task.cancel()
            await asyncio.gather(reading, sending, return_exceptions=True)

    async def _admit(self, context: _Context) -> tuple[Follower, pb.Resume]:
        message = await _next(context)
        resume = message.resume if message is not None else pb.Resume()
        if not 0 < len(resume.agent) <= _MAX_NAME or not resume.agent.isprintable():
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                "the first message must be a Resume with a printable agent name of at most"
                f" {_MAX_NAME} characters",
            )
        if len(self.followers) >= self._max_agents:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the relay gives names to {self._max_agents} agents already: {resume.agent} needs"
                " another one",
            )
        node = resume.node if resume.node.isprintable() else ""
        return Follower(resume.agent, node[:_MAX_NAME], time.time_ns()), resume

    async def _send(self, context: _Context, follower: Follower) -> None:
        while True:
            news = self._news
            if self._journal.ready:
                await self._bring(context, follower)
            if follower.beat != self._beats:
                follower.beat = self._beats
                await context.write(self._beat)
            await news.wait()

    async def _bring(self, context: _Context, follower: Follower) -> None:
        """Tell a follower what it does not have."""
        journal = self._journal
        while follower.sent != journal.version:
            entries = journal.after(follower.sent, _AT_ONCE)
            for entry in entries:
                await context.write(entry.message)
                follower.sent = entry.version
            if entries:
                continue
            snapshot = await journal.snapshot()
            follower.snapshots += 1
            self.snapshots += 1
            for message in snapshot.messages:
                await context.write(message)
            follower.sent = snapshot.version

    async def _read(self, context: _Context, follower: Follower) -> None:
        while (message := await _next(context)) is not None:
            follower.applied = max(follower.applied, min(message.applied, follower.sent))


async def _next(context: _Context) -> pb.IdentityRequest | None:
    """The stream's next message; None at its end."""
    data: object = await context.read()
    if not isinstance(data, bytes):  # grpc.aio.EOF
        return None
    with contextlib.suppress(DecodeError):
        return pb.IdentityRequest.FromString(data)
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not an IdentityRequest")
