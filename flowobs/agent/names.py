"""Where the agent's names come from: a cluster, the relay, an inventory file and the host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from typing import TYPE_CHECKING

from flowobs.agent.config import AgentConfig
from flowobs.agent.forward import Tls, open_channel
from flowobs.agent.metrics import Metrics
from flowobs.agent.relay_names import RelayNames
from flowobs.identity.cgroup_paths import CgroupPaths
from flowobs.identity.host import HostSource
from flowobs.identity.inventory import InventorySource
from flowobs.identity.places import Places
from flowobs.identity.resolver import Resolver
from flowobs.identity.source import IdentitySource

if TYPE_CHECKING:
    from flowobs.agent.cluster import Cluster


class Names:
    """The sources of names that ``config`` asks for. ``learn`` asks the relay, ``start`` others.

    Raises InventoryError (a wrong inventory file), AccessError (no way to a cluster).
    """

    def __init__(
        self,
        config: AgentConfig,
        node: str,
        cgroups: CgroupPaths,
        metrics: Metrics,
        *,
        hybrid: bool,
        tls: Tls | None,
    ) -> None:
        self._config = config
        self._node = node
        self._cgroups = cgroups
        self._metrics = metrics
        self._hybrid = hybrid
        self._inventory = self._make_inventory()
        self._cluster = self._make_cluster()
        self._relay = self._make_relay(tls)

    def _make_inventory(self) -> InventorySource | None:
        if self._config.inventory is None:
            return None
        source = InventorySource(self._config.inventory)
        source.load()
        return source

    def _make_cluster(self) -> Cluster | None:
        c = self._config
        if c.identity != "kubernetes":
            return None
        # imported here: aiohttp is 12 MB that other agents do without
        from flowobs.agent.cluster import Cluster

        return Cluster(c.kubeconfig, self._node, self._places(), self._metrics, c.cluster_name)

    def _make_relay(self, tls: Tls | None) -> RelayNames | None:
        if self._config.identity != "relay":
            return None
        connect = lambda: open_channel(self._config.relay, tls)  # noqa: E731
        return RelayNames(connect, self._node, self._places(), self._metrics)

    def _places(self) -> Places:
        return Places(self._cgroups, hybrid=self._hybrid)

    async def learn(self, on_end: Callable[[asyncio.Task[None]], None]) -> None:
        """Begin to take names from the relay; ``on_end`` hears of an end."""
        if self._relay is not None:
            await self._relay.start(on_end)

    def start(self, addresses: Callable[[], Set[bytes]]) -> Resolver:
        """All sources; ``addresses`` are those of this machine."""
        sources: list[IdentitySource] = []
        if self._cluster is not None:
            self._cluster.start()
            sources.append(self._cluster.source)
        if self._relay is not None:
            sources.append(self._relay.source)
        if self._inventory is not None:
            sources.append(self._inventory)
        if self._config.identity != "none":
            sources.append(HostSource(self._node, addresses, self._cgroups, hybrid=self._hybrid))
        resolver = Resolver(sources)
        resolver.poll()
        return resolver

    def close(self) -> None:
        """End the watch of a cluster; may be called without ``start``."""
        if self._cluster is not None:
            self._cluster.stop()

    async def stop(self) -> None:
        """End all of it."""
        await asyncio.to_thread(self.close)
        if self._relay is not None:
            await self._relay.stop()

    def expecting(self) -> bool:
        """Whether a pod without a name may get one in a moment."""
        follower = self._cluster or self._relay
        return follower is not None and not follower.source.stale

    def measure(self) -> None:
        """Write down how fresh the names are."""
        for follower in (self._cluster, self._relay):
            if follower is not None:
                follower.measure()
        if (inventory := self._inventory) is not None:
            self._metrics.identity_age.labels(inventory.name).set(inventory.age_s)
            self._metrics.identity_stale.labels(inventory.name).set(bool(inventory.problem))
            self._metrics.identity_objects.labels(inventory.name).set(inventory.entries)

    @property
    def crash(self) -> BaseException | None:
        """What ended the watch of a cluster, which nothing should."""
        return self._cluster.source.crash if self._cluster is not None else None
