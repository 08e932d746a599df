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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

import flowobs
from flowobs import log
from flowobs.agent import bpf, loader, sockets
from flowobs.agent.attach import Attachments
from flowobs.agent.bound import BoundSockets
from flowobs.agent.btf import Btf
from flowobs.agent.config import AgentConfig
from flowobs.agent.conntrack import Conntrack
from flowobs.agent.drops import NO_REASONS, fill_filter
from flowobs.agent.enrich import Enricher
from flowobs.agent.forward import Forwarder, Tls, open_channel, table_full
from flowobs.agent.holdback import Holdback
from flowobs.agent.metrics import Metrics
from flowobs.agent.nat import Nat
from flowobs.agent.owners import OwnerTable, command_text
from flowobs.agent.pipeline import Pipeline
from flowobs.agent.records import OWNER, SOCKET_OWNER
from flowobs.agent.relay_names import RelayNames
from flowobs.agent.scope import Scope
from flowobs.agent.scrape import Scrape
from flowobs.agent.spill import Spill
from flowobs.identity import whois
from flowobs.identity.cgroup_paths import CgroupPaths, find_mount
from flowobs.identity.host import HostSource
from flowobs.identity.inventory import InventorySource
from flowobs.identity.places import Places
from flowobs.identity.resolver import Resolver
from flowobs.identity.source import IdentitySource, Socket

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
    """One agent. ``learn`` asks the relay for names, ``start`` loads and attaches, ``run`` works
    until ``stop_soon`` or a fatal error.

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
        if self._cgroup is not None and not self._cgroup.is_dir():
            raise ConfigError(
                f"there is no cgroup folder {self._cgroup}: name one below the cgroup v2 mount"
            )
        self._fatal: BaseException | None = None
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._iterator = -1
        self._spill = self._make_spill()
        self._tls = Tls(config.tls_ca, config.tls_cert, config.tls_key) if config.tls_ca else None
        self._forwarder = self._make_forwarder()
        self._inventory = self._make_inventory()
        self._cgroups = CgroupPaths(self._mount)
        self._cluster = self._make_cluster()
        self._relay_names = self._make_relay_names()

    def _make_spill(self) -> Spill | None:
        folder = self.config.spool_dir
        if folder is None:
            return None
        try:
            return Spill(folder, self.config.spool_mb << 20)
        except OSError as error:
            raise ConfigError(f"--spool-dir {folder} cannot be used: {error.strerror}") from error

    def _make_forwarder(self) -> Forwarder:
        c = self.config
        try:
            return Forwarder(
                c.relay,
                agent=self.node,
                node=self.node,
                version=flowobs.__version__,
                tls=self._tls,
                insecure=c.insecure,
                spill=self._spill,
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
        name = self.config.cluster_name
        return Cluster(self.config.kubeconfig, self.node, places, self.metrics, name)

    def _make_relay_names(self) -> RelayNames | None:
        if self.config.identity != "relay":
            return None
        places = Places(self._cgroups, hybrid=self._hybrid)
        connect = lambda: open_channel(self.config.relay, self._tls)  # noqa: E731
        return RelayNames(connect, self.node, places, self.metrics)

    def _load(self) -> None:
        self._probes = self._load_probes()
        self._drop_reasons = dict(NO_REASONS)
        if "skb_drop" in self._probes.programs:
            # kernels before 5.17 have no reasons
            with contextlib.suppress(bpf.BpfError), Btf.kernel() as btf:
                self._drop_reasons = btf.drop_reasons()
            fill_filter(self._probes.maps["drop_filter"], self._drop_reasons)

    def _load_probes(self) -> loader.Probes:
        return loader.load(self.config.loader, flow_entries=self.config.flow_entries)

    def _names(self) -> Resolver:
        sources: list[IdentitySource] = []
        if self._cluster is not None:
            sources.append(self._cluster.source)
        if self._relay_names is not None:
            sources.append(self._relay_names.source)
        if self._inventory is not None:
            sources.append(self._inventory)
        if self.config.identity != "none":
            addresses = lambda: self._attachments.local_addresses  # noqa: E731
            sources.append(HostSource(self.node, addresses, self._cgroups, hybrid=self._hybrid))
        resolver = Resolver(sources)
        resolver.poll()
        return resolver

    def _owner_table(self, netns: int, scope: Scope | None) -> OwnerTable:
        def listings() -> dict[int, sockets.Listing]:
            inside = {
                inode: path
                for inode, path in sockets.namespaces().items()
                if scope is None or inode in scope
            }
            return sockets.listings(inside, bound=True)

        self._bound = BoundSockets(listings, lambda: self._attachments.links, netns=netns)
        if "socket_owners" in self._probes.programs:
            self._iterator = bpf.attach_iterator(self._probes.programs["socket_owners"])
            return OwnerTable(self._owners_of, self._all_sockets, bound=self._bound)
        # through every open file of the machine: rarely, then
        return OwnerTable(self._owners_of, self._search_sockets, rest=100, bound=self._bound)

    def _expecting(self) -> bool:
        """Whether a pod without a name may get one in a moment."""
        follower = self._cluster or self._relay_names
        return follower is not None and not follower.source.stale

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

    def _search_sockets(self) -> NDArray[np.void]:
        try:
            return sockets.owners(self._mount)
        except OSError as error:
            _log.warning("no owners of older sockets", extra={"why": str(error)})
            return np.zeros(0, SOCKET_OWNER.dtype)

    async def learn(self) -> None:
        """Begin to take names from the relay, before there are records to name."""
        if self._relay_names is not None:
            await self._relay_names.start(self._part_ended)

    def start(self) -> None:
        """Load, attach and begin to read."""
        c = self.config
        self._scrape = Scrape(c.metrics, self.registry, self.problem, self.whois)
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
            self._resolver = self._names()
            netns = Path(self._namespace or "/proc/self/ns/net").stat().st_ino
            self._scope = Scope(self._namespace) if self._namespace else None
            if self._scope is not None:
                undo.callback(self._scope.close)
            self._nat = Nat(Conntrack(self._namespace), self.metrics)
            self._nat.start()
            undo.callback(self._nat.stop)
            owners = self._owner_table(netns, self._scope)
            self._enricher = Enricher(
                self.node,
                self._resolver,
                owners,
                self._attachments,
                netns=netns,
                scope=self._scope,
                nat=self._nat,
            )
            self._holdback = Holdback(self._enricher, self._expecting)
            self._pipeline = Pipeline(
                self._probes,
                self._holdback.enrich,
                self._forwarder.put,
                self.metrics,
                self.crashed,
                drop_reasons=self._drop_reasons,
                netns=netns,
                table_full=table_full,
                on_drain=self._nat.poll,
                release=self._holdback.release,
                drain_interval=c.drain_interval,
            )
            self._show()
            self._pipeline.start()
            undo.callback(self._pipeline.stop)
            self._attachments.start()
            self._note_older_sockets()
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

    def _show(self) -> None:
        """Have metrics give what is known elsewhere as it is when somebody asks."""
        metrics, forwarder = self.metrics, self._forwarder
        metrics.connected.set_function(lambda: forwarder.stats.connected)
        metrics.spool_bytes.set_function(lambda: forwarder.spool_bytes)
        metrics.spool_disk_bytes.set_function(lambda: forwarder.spool_disk_bytes)
        metrics.out_of_scope.set_function(lambda: self._enricher.out_of_scope)
        metrics.identity_held.set_function(lambda: self._holdback.held)
        metrics.identity_held_named.set_function(lambda: self._holdback.named)

    def _note_older_sockets(self) -> None:
        """Sockets that were here before us: none of their hooks will tell of them."""
        self._bound.read()
        if self._iterator >= 0:
            self._all_sockets()  # marks the listeners
        elif (owners := self._probes.maps.get("owners")) is not None:
            for row in self._search_sockets():
                with contextlib.suppress(OSError):  # its own hook was faster
                    bpf.update(owners, row["cookie"], row["owner"], bpf.BPF_NOEXIST)

    async def run(self) -> None:
        """Forward until told to stop, then hand over what is left.

        Raises what ended a part of the agent.
        """
        self._loop = asyncio.get_running_loop()
        deliver = asyncio.create_task(self._forwarder.run())
        deliver.add_done_callback(self._part_ended)
        polling = asyncio.create_task(self._poll())
        polling.add_done_callback(self._part_ended)
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
            if self._spill is not None:
                self._spill.close()
            self._scrape.close()
            if self._cluster is not None:
                await asyncio.to_thread(self._cluster.stop)
            if self._relay_names is not None:
                await self._relay_names.stop()
            if self._iterator >= 0:
                os.close(self._iterator)
            self._nat.stop()
            if self._scope is not None:
                self._scope.close()
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
            if self._relay_names is not None:
                self._relay_names.measure()
            if self._cluster is not None:
                self._cluster.measure()
                if self._cluster.source.crash is not None:
                    self.crashed(self._cluster.source.crash)

    def _part_ended(self, task: asyncio.Task[None]) -> None:
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

    def whois(self, query: str, at: str | None) -> dict[str, Any]:
        """What this agent knows of an address, a name or a socket. Raises WhoisError."""
        asked = whois.parse(query, at)
        claims = whois.Explainer(self._resolver, self._socket)(asked)
        return whois.document(query, asked, claims) | {"node": self.node}

    def _socket(self, cookie: int) -> tuple[Socket, str] | None:
        """A socket of this machine, while its owner is noted, and where it is."""
        cookies = np.array([cookie], np.uint64)
        found, owners = self._owners_of(cookies)
        if not found[0] and self._iterator >= 0:
            listed = self._all_sockets()
            owners = listed["owner"][listed["cookie"] == cookie]
        elif not found[0]:
            return None
        if not len(owners):
            return None
        who = owners[0]
        socket = Socket(int(who["cgroup"]), int(who["pid"]), command_text(who["comm"].tobytes()))
        path = self._cgroups.path(socket.cgroup) or "not known"
        return socket, (
            f"its process is {socket.command} ({socket.pid}), its cgroup {path}; "
            "a pod's own address goes before it"
        )

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
        await agent.learn()
        await asyncio.to_thread(agent.start)
        await agent.run()

    asyncio.run(main())
