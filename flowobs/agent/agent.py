"""The agent as a whole: its parts, started and stopped in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

import flowobs
from flowobs import log
from flowobs.agent import bpf, loader
from flowobs.agent.attach import Attachments
from flowobs.agent.btf import Btf
from flowobs.agent.config import AgentConfig
from flowobs.agent.drops import fill_filter
from flowobs.agent.enrich import Enricher
from flowobs.agent.forward import Forwarder, Tls, table_full
from flowobs.agent.metrics import Metrics
from flowobs.agent.owners import OwnerTable
from flowobs.agent.pipeline import Pipeline
from flowobs.agent.records import OWNER, SOCKET_OWNER
from flowobs.agent.scope import Scope
from flowobs.agent.scrape import Scrape
from flowobs.identity.cgroup_paths import CgroupPaths, find_mount
from flowobs.identity.host import HostSource
from flowobs.identity.inventory import InventorySource
from flowobs.identity.places import Places
from flowobs.identity.resolver import Resolver
from flowobs.identity.source import IdentitySource

if TYPE_CHECKING:
    from flowobs.agent.cluster import Cluster

_log = logging.getLogger(__name__)

FLUSH_SECONDS = 3.0
"""How long a stopping agent waits for the relay to store what is left."""


class ConfigError(ValueError):
    """The configuration cannot be used; one sentence, and what to do next."""


def netns_path(name: str) -> str | None:
    """The path of a network namespace given by name or path; None for our own.

    Raises ConfigError.
    """
    if not name:
        return None
    path = Path(name) if "/" in name else Path("/run/netns") / name
    if not path.exists():
        raise ConfigError(
            f"there is no network namespace {path}: ip netns list shows those with a name"
        )
    return str(path)


class Agent:
    """One agent. ``start`` loads and attaches, ``run`` works until ``stop_soon`` or a fatal error.

    Raises ConfigError, InventoryError (a wrong inventory file), AccessError (no way to a cluster),
    LoadError (the probes), OSError (a port, a namespace).
    """

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.node = config.node or socket.gethostname()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self._namespace = netns_path(config.netns)
        self._mount, self._hybrid = find_mount()
        self._cgroup = Path(config.cgroup) if config.cgroup else self._mount
        if not self._cgroup.is_dir():
            raise ConfigError(
                f"there is no cgroup folder {self._cgroup}: name one below the cgroup v2 mount"
            )
        self._fatal: BaseException | None = None
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._iterator = -1
        self._forwarder = self._make_forwarder()
        self._inventory = self._make_inventory()
        self._cgroups = CgroupPaths(self._mount)
        self._cluster = self._make_cluster()

    def _make_forwarder(self) -> Forwarder:
        c = self.config
        tls = Tls(c.tls_ca, c.tls_cert, c.tls_key) if c.tls_ca else None
        try:
            return Forwarder(
                c.relay,
                agent=self.node,
                node=self.node,
                version=flowobs.__version__,
                tls=tls,
                insecure=c.insecure,
                on_drop=lambda reason, records: self.metrics.dropped.labels(reason).inc(records),
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _make_inventory(self) -> InventorySource | None:
        if self.config.inventory is None:
            return None
        source = InventorySource(self.config.inventory)
        source.load()
        return source

    def _make_cluster(self) -> Cluster | None:
        if self.config.identity != "kubernetes":
            return None
        # imported here: aiohttp is 12 MB that other agents do without
        from flowobs.agent.cluster import Cluster

        places = Places(self._cgroups, hybrid=self._hybrid)
        return Cluster(self.config.kubeconfig, self.node, places, self.metrics)

    def _load(self) -> None:
        self._probes = loader.load(self.config.loader, flow_entries=self.config.flow_entries)
        self._drop_reasons: dict[int, str] = {}
        if "skb_drop" in self._probes.programs:
            with Btf.kernel() as btf:
                self._drop_reasons = btf.drop_reasons()
            fill_filter(self._probes.maps["drop_filter"], self._drop_reasons)

    def _names(self) -> tuple[Resolver, OwnerTable]:
        sources: list[IdentitySource] = []
        if self._cluster is not None:
            sources.append(self._cluster.source)
        if self._inventory is not None:
            sources.append(self._inventory)
        if self.config.identity != "none":
            addresses = lambda: self._attachments.local_addresses  # noqa: E731
            sources.append(HostSource(self.node, addresses, self._cgroups, hybrid=self._hybrid))
        resolver = Resolver(sources)
        resolver.poll()
        if "socket_owners" in self._probes.programs:
            self._iterator = bpf.attach_iterator(self._probes.programs["socket_owners"])
        return resolver, OwnerTable(
            self._owners_of, self._all_sockets if self._iterator >= 0 else None
        )

    def _owners_of(self, cookies: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.void]]:
        owners = np.zeros(len(cookies), OWNER.dtype)
        map_fd = self._probes.maps.get("owners")
        if map_fd is None:
            return np.zeros(len(cookies), np.bool_), owners
        return bpf.lookup_each(map_fd, np.ascontiguousarray(cookies), owners), owners

    def _all_sockets(self) -> NDArray[np.void]:
        rows: NDArray[np.void] = np.frombuffer(
            bpf.read_iterator(self._iterator), SOCKET_OWNER.dtype
        )
        return rows

    def start(self) -> None:
        """Load, attach and begin to read."""
        c = self.config
        self._scrape = Scrape(c.metrics, self.registry, self.problem)
        with contextlib.ExitStack() as undo:
            undo.callback(self._scrape.close)
            self._load()
            undo.callback(self._probes.close)
            if self._cluster is not None:
                undo.callback(self._cluster.stop)
                self._cluster.start()
            self._attachments = Attachments(
                self._probes,
                self.metrics,
                self.crashed,
                namespace=self._namespace,
                include=c.interfaces,
                exclude=c.exclude_interfaces,
                cgroup=self._cgroup,
                method=c.attach,
            )
            self._resolver, owners = self._names()
            netns = Path(self._namespace or "/proc/self/ns/net").stat().st_ino
            scope = Scope(self._namespace) if self._namespace else None
            self._enricher = Enricher(
                self.node,
                self._resolver,
                owners,
                self._attachments,
                netns=netns,
                scope=scope,
            )
            self._pipeline = Pipeline(
                self._probes,
                self._enricher.enrich,
                self._forwarder.put,
                self.metrics,
                self.crashed,
                drop_reasons=self._drop_reasons,
                netns=netns,
                table_full=table_full,
                drain_interval=c.drain_interval,
            )
            self._pipeline.start()
            undo.callback(self._pipeline.stop)
            self._attachments.start()
            if self._iterator >= 0:
                self._all_sockets()  # marks the listeners that were here before us
            self._resolver.poll()
            self._scrape.start()
            undo.pop_all()
        attached = self._attachments.attached
        _log.info(
            "observing",
            extra={"node": self.node, "loader": self._probes.loader, "interfaces": len(attached)}
            | ({"netns": self._namespace} if self._namespace else {}),
        )
        for name, reason in self._attachments.missing.items():
            _log.warning(
                "a program does not run: flowobs doctor says what is lost",
                extra={"program": name, "why": reason},
            )

    async def run(self) -> None:
        """Forward until told to stop, then hand over what is left.

        Raises what ended a part of the agent.
        """
        self._loop = asyncio.get_running_loop()
        deliver = asyncio.create_task(self._forwarder.run())
        deliver.add_done_callback(self._delivery_ended)
        polling = asyncio.create_task(self._poll())
        try:
            await self._stop.wait()
            # the hooks first, so that what is in the maps is all there is
            await asyncio.to_thread(self._attachments.stop)
            await asyncio.to_thread(self._pipeline.stop)
            await self._forwarder.flush(FLUSH_SECONDS)
        finally:
            for task in (deliver, polling):
                task.cancel()
            await asyncio.gather(deliver, polling, return_exceptions=True)
            self._scrape.close()
            if self._cluster is not None:
                await asyncio.to_thread(self._cluster.stop)
            if self._iterator >= 0:
                os.close(self._iterator)
            self._probes.close()
        if self._fatal is not None:
            raise self._fatal

    async def _poll(self) -> None:
        """Once a second: news for the names, and counters that live elsewhere."""
        stored = 0
        while True:
            await asyncio.sleep(1)
            await asyncio.to_thread(self._resolver.poll)
            stats = self._forwarder.stats
            self.metrics.sent.inc(stats.stored_records - stored)
            stored = stats.stored_records
            self.metrics.connected.set(stats.connected)
            self.metrics.spool_bytes.set(self._forwarder.spool_bytes)
            self.metrics.out_of_scope.set(self._enricher.out_of_scope)
            if self._cluster is not None:
                self._cluster.measure()
                if self._cluster.source.crash is not None:
                    self.crashed(self._cluster.source.crash)

    def _delivery_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crashed(error)

    def crashed(self, error: BaseException) -> None:
        """A part has ended by itself: nothing may stop silently, so the agent ends.

        From any thread.
        """
        if self._fatal is None:
            self._fatal = error
            _log.critical("the agent cannot go on", exc_info=error)
        self.stop_soon()

    def stop_soon(self) -> None:
        """Have ``run`` come to its end. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        else:
            self._stop.set()

    def problem(self) -> str:
        """Why the agent is not healthy, in a sentence; empty when it is."""
        if self._fatal is not None:
            return f"the agent is ending: {self._fatal}"
        return ""


def run(config: AgentConfig) -> None:
    """Run an agent until SIGINT or SIGTERM.

    Raises what ``Agent`` raises, and what ended a part of it.
    """
    log.setup(as_json=config.log_json)
    # two descriptors an interface: the usual soft limit of 1,024 is for programs that use select()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    assert threading.current_thread() is threading.main_thread()
    # All threads to come: waking up, they wait for the turn of whoever runs. Our share stays.
    with contextlib.suppress(OSError):  # a sandbox may refuse it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    async def main() -> None:
        agent = Agent(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, agent.stop_soon)
        await asyncio.to_thread(agent.start)
        await agent.run()

    asyncio.run(main())
