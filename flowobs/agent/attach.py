"""Puts loaded programs on their hooks, and follows the interfaces of a namespace as they come."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fnmatch
import logging
import os
import select
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from flowobs.agent import bpf, netns, perf
from flowobs.agent.features import NO_CGROUP, PROGRAMS, Program
from flowobs.agent.links import Link, LinkEvent, LinkMonitor
from flowobs.agent.loader import Probes
from flowobs.agent.metrics import Metrics
from flowobs.agent.tc import Method, Pair, TcHooks

LINK_PROGRAMS = {14: "", 0: "_l3"}
"""Bytes of link header -> what the names of the programs for such links end with."""

GONE_LINKS = 1024
"""So many links that went are remembered, because their last records are still to be named."""
_NAMED_LINKS = 10

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Attachments:
    """The programs of ``probes`` on the hooks of one network namespace (None: ours).

    Every link whose name matches one of ``include`` and none of ``exclude`` (globs), is
    observed; one that comes later, at once. ``cgroup`` is the cgroup v2 folder below which socket
    owners are noted, None for nowhere. ``on_crash`` hears what ended the thread if not ``stop``.
    """

    def __init__(
        self,
        probes: Probes,
        metrics: Metrics,
        on_crash: Callable[[BaseException], None],
        *,
        namespace: str | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        cgroup: Path | None = None,
        method: Method = "auto",
    ) -> None:
        self.missing: dict[str, str] = dict(probes.missing)
        """Programs that do not run, with the reason; known once ``start`` returns."""
        self.idle: list[str] = []
        """Programs that are not needed, because better ones run."""
        self.links: dict[int, Link] = {}
        """ifindex -> link; replaced on change. Those that went stay a while, without addresses."""
        self.attached: frozenset[int] = frozenset()
        """ifindexes of the links that are observed."""
        self._probes = probes
        self._metrics = metrics
        self._on_crash = on_crash
        self._namespace = namespace
        self._include = tuple(include) or ("*",)
        self._exclude = tuple(exclude)
        self._cgroup = cgroup
        self._method = method
        self._monitor = LinkMonitor()
        self._gone: dict[int, Link] = {}
        self._complained: set[int] = set()
        self._machine_wide: list[int] = []
        self._stopping = -1
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="attach", daemon=True)

    @property
    def local_addresses(self) -> frozenset[bytes]:
        """Addresses of the namespace now, 16 bytes each."""
        return frozenset(self._monitor.local_addresses())

    def start(self) -> None:
        """Attach to everything that is there.

        Raises OSError where the namespace cannot be entered. A link or a program that refuses costs
        itself only: it is counted, and said once.
        """
        self._stopping = os.eventfd(0, os.EFD_CLOEXEC)
        self._attach_machine_wide()
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self.stop()
            raise self._error

    def stop(self) -> None:
        """Detach everything; returns when nothing of ours is left on any hook."""
        if self._stopping < 0:
            return
        os.eventfd_write(self._stopping, 1)
        self._thread.join()
        for fd in (*self._machine_wide, self._stopping):
            os.close(fd)
        self._machine_wide.clear()
        self._stopping = -1

    def _attach_machine_wide(self) -> None:
        for program in PROGRAMS:
            if program.instead_of and program.instead_of not in self.missing:
                self.idle.append(program.name)
                self.missing.pop(program.name, None)  # whether it could run does not matter
                continue
            if program.needs and program.needs in self.missing:
                self.missing.setdefault(program.name, f"it needs {program.needs}")
            elif (fd := self._probes.programs.get(program.name)) is not None:
                try:
                    self._attach_program(fd, program)
                except OSError as error:
                    self._metrics.attach_failures.inc()
                    self.missing[program.name] = str(error.strerror)
            running = program.name not in self.missing
            self._metrics.program_loaded.labels(program.name, program.feature).set(running)

    def _attach_program(self, fd: int, program: Program) -> None:
        """Put a program on its hook, unless that is an interface's or an iterator's."""
        if program.kind == "raw_tp":
            self._machine_wide.append(bpf.attach_raw_tracepoint(fd, program.hook))
        elif program.kind in ("tp_btf", "fentry"):
            self._machine_wide.append(bpf.attach_traced(fd))
        elif program.kind in ("kprobe", "kretprobe"):
            returns = program.kind == "kretprobe"
            self._machine_wide.append(perf.attach_kprobe(fd, program.hook, returns=returns))
        elif program.kind == "cgroup":
            if self._cgroup is None:
                raise OSError(errno.ENOENT, NO_CGROUP)
            link = bpf.attach_cgroup(fd, self._cgroup, program.attach_type)
            self._machine_wide.append(link)

    def _run(self) -> None:
        try:
            if self._namespace is not None:
                netns.enter(self._namespace)
            programs = self._probes.programs
            pairs: dict[int | None, Pair] = {}
            for header, kind in LINK_PROGRAMS.items():
                names = f"flow_ingress{kind}", f"flow_egress{kind}"
                if programs.keys() >= set(names):
                    pairs[header] = Pair(*(programs[name] for name in names))
            hooks = TcHooks(pairs, self._method)
            with contextlib.closing(self._monitor):
                try:
                    self._follow(hooks)
                finally:
                    for error in hooks.close():
                        _log.warning("a filter of ours stays: %s", error.strerror)
                    self.attached = frozenset()
        except BaseException as error:
            if self._ready.is_set():
                self._on_crash(error)
            else:
                self._error = error
        finally:
            self._ready.set()

    def _follow(self, hooks: TcHooks) -> None:
        events = self._monitor.open()
        for event in events:
            with contextlib.suppress(OSError):  # a link that refuses this refuses "attach" too
                hooks.clean(event.link.ifindex)
        self._take(hooks, events)
        names = [link.name for link in self.links.values()]
        if not any(map(self._selected, names)):
            _log.warning(
                "no interface is observed: --interface and --exclude-interface leave out %s%s;"
                " one with another name is observed once it comes",
                ", ".join(names[:_NAMED_LINKS]) or "all",
                " and others" * (len(names) > _NAMED_LINKS),
            )
        self._ready.set()
        waiting = select.poll()
        waiting.register(self._stopping, select.POLLIN)
        waiting.register(self._monitor.fileno(), select.POLLIN)
        while all(fd != self._stopping for fd, _ in waiting.poll()):
            overruns = self._monitor.overruns
            self._take(hooks, self._monitor.poll())
            self._metrics.link_overruns.inc(self._monitor.overruns - overruns)

    def _take(self, hooks: TcHooks, events: Sequence[LinkEvent]) -> None:
        if not events:
            return
        # First the names, then the programs: a record never comes from a link that nobody knows.
        for change, link in events:
            if change == "removed":
                gone = dataclasses.replace(link, addresses=frozenset())
                self._gone = dict([*self._gone.items(), (link.ifindex, gone)][-GONE_LINKS:])
        self.links = self._gone | self._monitor.links
        for event in events:
            self._apply(hooks, event)
        self.attached = frozenset(hooks.held)
        self._metrics.links_attached.set(len(hooks.held))

    def _apply(self, hooks: TcHooks, event: LinkEvent) -> None:
        link = event.link
        observed = link.ifindex in hooks.held
        selected = self._selected(link.name)
        if event.change == "removed":
            hooks.forget(link.ifindex)
            self._complained.discard(link.ifindex)
        elif selected and not observed:
            # Not only when it is up: what is attached by then misses no packet.
            if hooks.understands(link):
                self._attempt(hooks.attach, link, link)
            elif link.up:
                self._complain(link, self._why_not(link))
        elif observed and not selected:  # it was renamed
            self._attempt(hooks.detach, link.ifindex, link)

    def _why_not(self, link: Link) -> str:
        if link.link_header is None:
            return "not observed: its frames begin with neither Ethernet nor IP"
        return f"not observed: {self.missing.get('flow_ingress_l3', 'its programs are not loaded')}"

    def _attempt(self, action: Callable[[T], None], argument: T, link: Link) -> None:
        try:
            action(argument)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return  # it went meanwhile, and its removal is on the way
            self._metrics.attach_failures.inc()
            self._complain(link, str(error.strerror))

    def _complain(self, link: Link, reason: str) -> None:
        """Once for a link: it stays as it is, and changes of it come often."""
        if link.ifindex not in self._complained:
            self._complained.add(link.ifindex)
            _log.warning("interface %s: %s", link.name, reason)

    def _selected(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, glob) for glob in self._include) and not any(
            fnmatch.fnmatchcase(name, glob) for glob in self._exclude
        )
