"""The agent as a whole: its parts, started and stopped in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

import flowobs
from flowobs import log, memory
from flowobs.agent import bpf, loader
from flowobs.agent.attach import Attachments
from flowobs.agent.btf import Btf
from flowobs.agent.config import AgentConfig
from flowobs.agent.conntrack import Conntrack
from flowobs.agent.drops import NO_REASONS, ROUTES, fill_filter
from flowobs.agent.enrich import Enricher
from flowobs.agent.forward import Forwarder, Tls, table_full
from flowobs.agent.holdback import Holdback
from flowobs.agent.metrics import Metrics
from flowobs.agent.names import Names
from flowobs.agent.nat import Nat
from flowobs.agent.pipeline import Pipeline
from flowobs.agent.scope import Scope
from flowobs.agent.scrape import Scrape
from flowobs.agent.socket_owners import SocketOwners
from flowobs.agent.spill import Spill
from flowobs.identity import whois
from flowobs.identity.cgroup_paths import CgroupPaths, find_mount
from flowobs.identity.source import Socket
from flowobs.scheduling import Pace

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
    until ``stop_soon`` or a fatal error. ``on_pace`` hears again and again whether it is behind.

    Raises ConfigError, InventoryError (a wrong inventory file), AccessError (no way to a cluster),
    LoadError (the probes), OSError (a port, a namespace).
    """

    def __init__(
        self, config: AgentConfig, on_pace: Callable[[bool], None] = lambda behind: None
    ) -> None:
        self.config = config
        self._on_pace = on_pace
        self.node = config.node or socket.gethostname()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self._namespace = netns_path(config.netns)
        self._mount, hybrid = find_mount()
        self._cgroup = Path(config.cgroup) if config.cgroup else self._mount
        if self._cgroup is not None and not self._cgroup.is_dir():
            raise ConfigError(
                f"there is no cgroup folder {self._cgroup}: name one below the cgroup v2 mount"
            )
        self._fatal: BaseException | None = None
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._spill = self._make_spill()
        self._tls = Tls(config.tls_ca, config.tls_cert, config.tls_key) if config.tls_ca else None
        self._forwarder = self._make_forwarder()
        self._cgroups = CgroupPaths(self._mount)
        self._names = Names(
            config, self.node, self._cgroups, self.metrics, hybrid=hybrid, tls=self._tls
        )

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

    def _load(self) -> None:
        self._probes = self._load_probes()
        self._drop_reasons = {**NO_REASONS, **ROUTES}
        if "skb_drop" in self._probes.programs:
            # kernels before 5.17 have no reasons
            with contextlib.suppress(bpf.BpfError), Btf.kernel() as btf:
                self._drop_reasons = {**btf.drop_reasons(), **ROUTES}
            fill_filter(self._probes.maps["drop_filter"], self._drop_reasons)

    def _load_probes(self) -> loader.Probes:
        return loader.load(self.config.loader, flow_entries=self.config.flow_entries)

    def _make_attachments(self) -> Attachments:
        c = self.config
        return Attachments(
            self._probes,
            self.metrics,
            self.crashed,
            namespace=self._namespace,
            include=c.interfaces,
            exclude=c.exclude_interfaces,
            cgroup=self._cgroup,
            method=c.attach,
        )

    async def learn(self) -> None:
        """Begin to take names from the relay, before there are records to name."""
        await self._names.learn(self._part_ended)

    def start(self) -> None:
        """Load, attach and begin to read."""
        c = self.config
        self._scrape = Scrape(c.metrics, self.registry, self.problem, self.whois)
        with contextlib.ExitStack() as undo:
            undo.callback(self._scrape.close)
            self._load()
            undo.callback(self._probes.close)
            self._attachments = self._make_attachments()
            undo.callback(self._names.close)
            self._resolver = self._names.start(lambda: self._attachments.local_addresses)
            netns = Path(self._namespace or "/proc/self/ns/net").stat().st_ino
            self._scope = Scope(self._namespace) if self._namespace else None
            if self._scope is not None:
                undo.callback(self._scope.close)
            self._nat = Nat(Conntrack(self._namespace), self.metrics)
            self._nat.start()
            undo.callback(self._nat.stop)
            self._sockets = SocketOwners(
                self._probes,
                lambda: self._attachments.links,
                netns=netns,
                scope=self._scope,
                mount=self._mount,
            )
            undo.callback(self._sockets.close)
            self._enricher = Enricher(
                self.node,
                self._resolver,
                self._sockets.table,
                self._attachments,
                netns=netns,
                scope=self._scope,
                nat=self._nat,
            )
            self._holdback = Holdback(self._enricher, self._names.expecting)
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
                on_pace=self._on_pace,
                drain_interval=c.drain_interval,
                flush_interval=lambda: self._forwarder.batch_interval,
            )
            self._show()
            self._pipeline.start()
            undo.callback(self._pipeline.stop)
            self._attachments.start()
            self._sockets.note_older()
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
            await self._names.stop()
            self._sockets.close()
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
            self._names.measure()
            if (crash := self._names.crash) is not None:
                self.crashed(crash)

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
        socket = self._sockets.find(cookie)
        if socket is None:
            return None
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
    loader.check_rights()  # before anything that takes its time, or has something to say
    memory.bound()
    log.setup(as_json=config.log_json)
    # two descriptors an interface: the usual soft limit of 1,024 is for programs that use select()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    assert threading.current_thread() is threading.main_thread()

    async def main() -> None:
        agent = Agent(config, Pace().note)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, agent.stop_soon)
        await agent.learn()
        await asyncio.to_thread(agent.start)
        await agent.run()

    asyncio.run(main())
