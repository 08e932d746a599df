"""Names from a relay: follows its stream of the cluster's objects, for as long as it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from flowobs._proto.flowobs.v1 import identity_pb2 as pb
from flowobs.identity.places import Places
from flowobs.kubernetes.backoff import Backoff, Timing
from flowobs.kubernetes.changes import ChangesError
from flowobs.kubernetes.freshness import ResourceState
from flowobs.kubernetes.replica import Replica
from flowobs.kubernetes.source import TableSource
from flowobs.kubernetes.table import Table

_log = logging.getLogger(__name__)

TIMING = Timing(least=0.2, most=10.0)
STALE_SECONDS = 15.0
"""Silence of the relay, which speaks every 5 s, after which what is known counts as stale."""
ACK_SECONDS = 1.0
CAREFUL_SECONDS = 0.2
NOT_OFFERED_SECONDS = 60.0
"""How often a relay that gives no names is asked again."""
RELAY = "relay"
"""Stands for the stream itself among the resources."""

_Call = grpc.aio.StreamStreamCall[Any, Any]


class StreamSource(TableSource):
    """The cluster that a relay watches. ``run`` follows until cancelled.

    ``connect`` makes a channel to the relay. Without a relay what is known stays in use.
    """

    def __init__(
        self,
        connect: Callable[[], grpc.aio.Channel],
        *,
        agent: str,
        places: Places | None = None,
        timing: Timing = TIMING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(Table(), places)
        self.replica = Replica(self.table)
        self.problem = ""
        """Why there is no stream, in a sentence; empty while there is one."""
        self.offered: bool | None = None
        """Whether the relay gives names; None: not known yet."""
        self._connect = connect
        self._agent = agent
        self._backoff = Backoff(timing)
        self._clock = clock
        self._heard = clock()
        self._told: tuple[Sequence[pb.ResourceFreshness], float] = ((), self._heard)
        self._settled = asyncio.Event()
        self._acked = 0
        self._said = ""

    async def known(self, wait: float) -> bool:
        """Wait until all there is is known, the relay offers no names, or cannot be reached;
        at most ``wait`` seconds. True if it is known.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._settled.wait()
        return self.replica.synced

    @property
    def states(self) -> list[ResourceState]:
        """How each resource's watch in the relay is doing, and the stream from it; any thread."""
        resources, told = self._told
        since = max(0.0, self._clock() - told)
        silent = self.silence > STALE_SECONDS
        stream = ResourceState(
            RELAY,
            len(self.replica.known),
            self.silence,
            silent or not self.replica.synced,
            self.problem,
        )
        return [stream] + [
            ResourceState(
                r.resource, r.objects, r.age_ms / 1000 + since, r.stale or silent, r.problem
            )
            for r in resources
        ]

    @property
    def silence(self) -> float:
        """Seconds since the relay was heard of."""
        return max(0.0, self._clock() - self._heard)

    async def run(self) -> None:
        """Follow until cancelled. Nothing that a relay does ends it."""
        channel = self._connect()
        try:
            while True:
                wait = await self._attempt(channel)
                self.replica.interrupted()
                self._settled.set()
                await asyncio.sleep(wait)
        finally:
            await channel.close(None)

    async def _attempt(self, channel: grpc.aio.Channel) -> float:
        """One stream; the seconds to wait for after it."""
        call = self._call(channel)
        acking: asyncio.Task[None] | None = None
        try:
            self._acked = 0
            try:
                await call.write(self._resume())
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.INTERNAL:
                    raise
                # grpc.aio replaces the relay's status by this when a write meets it (grpc issue
                # 36066): time to hear what the relay has to say.
                call = self._call(channel)
                await call.wait_for_connection()
                await asyncio.sleep(CAREFUL_SECONDS)
                await call.write(self._resume())
            acking = asyncio.create_task(self._acknowledge(call))
            while isinstance(message := await call.read(), pb.IdentityMessage):
                self._take(message)
            return self._failed(await call.code(), await call.details() or "it ended the stream")
        except grpc.aio.AioRpcError as error:
            return self._failed(error.code(), error.details() or error.code().name)
        except (asyncio.InvalidStateError, grpc.aio.UsageError):
            # a write to a call that has ended meanwhile: its status says why
            return self._failed(await call.code(), await call.details() or "it ended the stream")
        except ChangesError as error:
            self.replica.forget_version()
            return self._failed(None, str(error))
        finally:
            call.cancel()
            if acking is not None:
                acking.cancel()
                await asyncio.gather(acking, return_exceptions=True)

    def _call(self, channel: grpc.aio.Channel) -> _Call:
        call: _Call = channel.stream_stream(
            "/flowobs.v1.Identity/Stream",
            request_serializer=pb.IdentityRequest.SerializeToString,
            response_deserializer=pb.IdentityMessage.FromString,
        )(None)
        return call

    def _resume(self) -> pb.IdentityRequest:
        resume = pb.Resume(agent=self._agent, node=self._agent)
        resume.epoch, resume.version = self.replica.epoch, self.replica.version
        return pb.IdentityRequest(resume=resume)

    def _take(self, message: pb.IdentityMessage) -> None:
        """Raises ChangesError."""
        replica, synced = self.replica, self.replica.synced
        match message.WhichOneof("message"):
            case "snapshot":
                replica.take_snapshot(message.snapshot)
            case "delta":
                replica.take_delta(message.delta)
            case "freshness":
                replica.take_freshness(message.freshness)
                self._told = message.freshness.resources, self._clock()
            case _:
                return  # a newer relay's
        self._heard = self._clock()
        if self._said:
            _log.info("names come from the relay again")
        self.problem = self._said = ""
        self.offered = True
        self._backoff.worked()
        if replica.synced and not synced:
            _log.info("names known: objects=%d from=relay", len(replica.known))
            self._settled.set()

    async def _acknowledge(self, call: _Call) -> None:
        """Say how far we are, now and then: the relay shows who is behind."""
        while True:
            await asyncio.sleep(ACK_SECONDS)
            version = self.replica.version
            if version != self._acked:
                self._acked = version
                with contextlib.suppress(
                    grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError
                ):
                    await call.write(pb.IdentityRequest(applied=version))

    def _failed(self, code: grpc.StatusCode | None, why: str) -> float:
        """Say once that there is no stream; the seconds until the next attempt."""
        if code is grpc.StatusCode.UNIMPLEMENTED:
            self.offered = False
            self.problem = (
                "the relay gives no names: start it with --kubernetes, or update it if it is older"
            )
        else:
            self.problem = f"no names from the relay: {why}"
        news = not self._said or (self.offered is False and self.problem != self._said)
        if news and self.replica.synced:
            _log.warning("%s; those of before stay in use", self.problem)
        self._said = self.problem
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return NOT_OFFERED_SECONDS
        return self._backoff.failed()
