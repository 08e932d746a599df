"""All watches of one cluster, feeding one keeper of its objects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from flowobs.kubernetes.access import Access
from flowobs.kubernetes.backoff import Timing
from flowobs.kubernetes.client import Client
from flowobs.kubernetes.freshness import ResourceState
from flowobs.kubernetes.objects import Object
from flowobs.kubernetes.reflector import Reflector
from flowobs.kubernetes.resources import PODS, RESOURCES, Resource

_log = logging.getLogger(__name__)

EXTRA_SECONDS = 2.0
"""How long names that are known wait for what they can do without: owners of workloads, say, of
which they would only be corrected a moment later.
"""


class Keeper(Protocol):
    """Keeps objects; see Table for what its methods are told. ``node``: whose pods it wants."""

    node: str

    def put(self, thing: Object, since_ns: int | None) -> None: ...

    def remove(self, uid: str, at_ns: int) -> None: ...

    def settled(self) -> None: ...


class ClusterWatch:
    """Keeps ``table`` as the API server is: all pods, or those of ``table.node`` alone."""

    def __init__(
        self,
        access: Access,
        table: Keeper,
        *,
        resources: Sequence[Resource] = RESOURCES,
        on_synced: Callable[[], None] = lambda: None,
        timing: Timing | None = None,
    ) -> None:
        self.table = table
        self.client = Client(access, timing)
        self._on_synced = on_synced
        self._waiting = {resource.name for resource in resources}
        self._extras = {resource.name for resource in resources if resource.extra}
        self._settled = False
        selector = f"spec.nodeName={table.node}" if table.node else ""
        self._reflectors = [
            Reflector(
                self.client,
                resource,
                _Feed(self, resource),
                selector=selector if resource is PODS else "",
            )
            for resource in resources
        ]

    async def run(self) -> None:
        """Follow until cancelled."""
        async with self.client, asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())

    @property
    def states(self) -> list[ResourceState]:
        """From any thread."""
        return [
            ResourceState(
                r.resource.name,
                len(r.known),
                r.freshness.age,
                r.freshness.stale and not r.off,
                r.freshness.problem,
                r.lists,
                r.undecodable,
                r.off,
            )
            for r in self._reflectors
        ]

    @property
    def stale(self) -> bool:
        """Whether any name may be wrong by now."""
        return any(r.freshness.stale for r in self._reflectors if not r.resource.extra)

    def synced(self, resource: Resource) -> None:
        """All there is of it was put, or we may not have it."""
        if self._settled:
            if not resource.extra:
                self.table.settled()
            return
        self._waiting.discard(resource.name)
        if not self._waiting:
            self._settle()
        elif self._waiting <= self._extras:
            asyncio.get_running_loop().call_later(EXTRA_SECONDS, self._settle)

    def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            self.table.settled()
            _log.info("names known: %s", {s.resource: s.objects for s in self.states})
            self._on_synced()


class _Feed:
    """A reflector's sink."""

    def __init__(self, watch: ClusterWatch, resource: Resource) -> None:
        self._watch = watch
        self._resource = resource

    def put(self, thing: Object, since_ns: int | None) -> None:
        self._watch.table.put(thing, since_ns)

    def remove(self, uid: str, at_ns: int) -> None:
        self._watch.table.remove(uid, at_ns)

    def synced(self) -> None:
        self._watch.synced(self._resource)
