"""The agent's names from the relay: their source, and how fresh they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc.aio

from flowobs.agent.metrics import Metrics
from flowobs.identity.places import Places
from flowobs.kubernetes.stream import StreamSource

_log = logging.getLogger(__name__)

WAIT_SECONDS = 10.0
"""How long a starting agent waits for names; after that it observes without them."""


class RelayNames:
    """Names of the cluster that the relay watches, if it watches one."""

    def __init__(
        self,
        connect: Callable[[], grpc.aio.Channel],
        agent: str,
        places: Places,
        metrics: Metrics,
    ) -> None:
        self.source = StreamSource(connect, agent=agent, places=places)
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None

    async def start(self, on_end: Callable[[asyncio.Task[None]], None]) -> None:
        """Begin to follow, and wait for names a little. ``on_end`` hears of an end."""
        self._task = asyncio.create_task(self.source.run())
        self._task.add_done_callback(on_end)
        if await self.source.known(WAIT_SECONDS):
            return
        if self.source.offered is False:
            _log.info("names of this machine only: %s", self.source.problem)
        else:
            _log.warning(
                "names from the relay are not known yet, records go without them: %s",
                self.source.problem or "it does not know its cluster yet",
            )

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def measure(self) -> None:
        """Write down how fresh the names are."""
        source, metrics = self.source, self._metrics
        if source.offered is None or (source.offered is False and not source.replica.synced):
            return
        for state in source.states:
            metrics.identity_age.labels(state.resource).set(state.age)
            metrics.identity_stale.labels(state.resource).set(state.stale)
            metrics.identity_objects.labels(state.resource).set(state.objects)
        metrics.identity_changes.set(source.replica.changes)
        metrics.identity_snapshots.set(source.replica.snapshots)
        metrics.identity_conflicts.set(source.table.conflicts)
