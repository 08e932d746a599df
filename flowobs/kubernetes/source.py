"""Names from Kubernetes: pods, nodes and services by address, containers by their cgroup."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from flowobs.batch import Endpoint
from flowobs.identity.places import Places
from flowobs.identity.source import Answer, Claim, Socket
from flowobs.kubernetes.access import Access
from flowobs.kubernetes.backoff import Timing
from flowobs.kubernetes.freshness import ResourceState
from flowobs.kubernetes.resources import EXTRA
from flowobs.kubernetes.table import SOURCE, Table

if TYPE_CHECKING:
    from flowobs.kubernetes.watch import ClusterWatch

_log = logging.getLogger(__name__)
_STOP_SECONDS = 5.0


_BESIDES = frozenset(resource.name for resource in EXTRA)
"""Resources that names can do without."""


class TableSource:
    """Names out of ``table``, which somebody else keeps; ``places`` knows local sockets."""

    name = SOURCE

    def __init__(self, table: Table, places: Places | None = None) -> None:
        self.table = table
        self._places = places
        self._retried = 0

    @property
    def generation(self) -> int:
        return self.table.generation + self._retried

    @property
    def states(self) -> list[ResourceState]:
        """How the watch of each resource is doing; from any thread."""
        return []

    @property
    def stale(self) -> bool:
        """Whether any name may be wrong by now."""
        return any(state.stale for state in self._needed())

    @property
    def age_s(self) -> int:
        """How long the resource that is longest without news has been so, of those too long."""
        return int(max((state.age for state in self._needed() if state.stale), default=0))

    def _needed(self) -> list[ResourceState]:
        return [state for state in self.states if state.resource not in _BESIDES]

    def poll(self) -> None:
        """Forget what is too old; look again for cgroups that were not there."""
        self.table.expire()
        if self._places is not None and self._places.cgroups.retry():
            self._retried += 1

    def by_address(self, address: bytes, time_ns: int) -> Answer:
        return self.table.by_address(address, time_ns)

    def explain(self, address: bytes, time_ns: int) -> list[Claim]:
        return self.table.explain(address, time_ns)

    def explain_name(self, namespace: str | None, name: str, time_ns: int) -> list[Claim]:
        return self.table.explain_name(namespace, name, time_ns)

    def by_socket(self, socket: Socket) -> Endpoint | None:
        place = self._places.pod(socket) if self._places is not None else None
        return self.table.by_container(place.container, place.pod) if place is not None else None


class KubernetesSource(TableSource):
    """The cluster as ``access`` shows it; of pods those of ``node``, or all where that is empty.

    It watches in a thread of its own, from ``start`` to ``stop``.
    """

    def __init__(
        self,
        access: Access,
        *,
        node: str = "",
        places: Places | None = None,
        timing: Timing | None = None,
    ) -> None:
        # imported here: aiohttp is 12 MB that agents whose names come from a relay do without
        from flowobs.kubernetes.watch import ClusterWatch

        super().__init__(Table(access.cluster, node), places)
        self.watch: ClusterWatch = ClusterWatch(
            access, self.table, on_synced=self._all_known, timing=timing
        )
        self.crash: BaseException | None = None
        """What ended the watch, which nothing should."""
        self._synced = threading.Event()
        self._thread = threading.Thread(target=self._work, name="kubernetes", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None

    @property
    def states(self) -> list[ResourceState]:
        """How each resource's watch is doing; from any thread."""
        return self.watch.states

    def start(self, wait: float = 0.0) -> bool:
        """Begin to watch; True if all there is became known within ``wait`` seconds."""
        self._thread.start()
        return self._synced.wait(wait)

    def stop(self) -> None:
        """End the watch; may be called without ``start``."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._cancel)
            self._thread.join(_STOP_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    def _work(self) -> None:
        self._task = self._loop.create_task(self.watch.run())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.crash = error
            _log.critical("the watch of the cluster has ended", exc_info=error)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _all_known(self) -> None:
        self._synced.set()
        node = self.table.node
        if node and not self.table.has_node(node):
            _log.warning(
                "the cluster has no node of this name, so none of its pods get names: "
                "give the node's name with --node: node=%s",
                node,
            )
