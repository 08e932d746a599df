"""Finds out what works on this machine by doing it: loads and attaches every program.

tc programs are tried on the loopback interface of a network namespace of our own, cgroup programs
on an empty cgroup of our own, tracepoints for a moment on the machine's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from flowobs.agent import bpf, btf, perf
from flowobs.agent.conntrack import Conntrack
from flowobs.agent.features import FEATURES, NO_CGROUP, PROGRAMS, Program
from flowobs.agent.loader import Choice, LoaderName, LoadError, load
from flowobs.agent.nat import why_not
from flowobs.identity.cgroup_paths import find_mount

TcMethod = Literal["tcx", "clsact"]
T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_LOOPBACK = 1  # ifindex of lo in every network namespace


@dataclass(slots=True)
class ProgramReport:
    """One program. ``attached``: None where it could not be tried; ``reason``: what is wrong."""

    name: str
    feature: str
    kind: str
    hook: str
    required: bool
    lost: str
    instead_of: str
    """A better program: this one is only needed where that one is refused."""
    needed: bool = True
    loaded: bool = False
    attached: bool | None = None
    reason: str | None = None

    @property
    def works(self) -> bool:
        """Not needed; or loaded, and not known to refuse its hook."""
        return not self.needed or (self.loaded and self.attached is not False)


@dataclass(slots=True)
class Report:
    """What works here. ``tc``: how programs get to interfaces; ``error``: why none is loaded."""

    kernel: str
    machine: str
    btf: bool
    loader: LoaderName | None = None
    tc: TcMethod | None = None
    error: str | None = None
    programs: list[ProgramReport] = field(default_factory=list)
    nat: str | None = None
    """Why translations (NAT) are not known here."""

    @property
    def ok(self) -> bool:
        """The main job, counting traffic, can be done."""
        return all(program.works for program in self.programs if program.required)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the fields, with ``ok`` for the whole and for each feature."""
        features = {
            name: {"gives": gives, "ok": all(p.works for p in self.programs if p.feature == name)}
            for name, gives in FEATURES.items()
        }
        features["nat"]["ok"] = self.nat is None
        return {"ok": self.ok, **asdict(self), "features": features}


def examine(choice: Choice = "auto") -> Report:
    """Load and attach everything once, and clean up. Never raises for what a machine lacks."""
    report = Report(platform.release(), platform.machine(), btf.KERNEL.is_file())
    report.programs = [
        ProgramReport(p.name, p.feature, p.kind, p.hook, p.required, p.lost, p.instead_of)
        for p in PROGRAMS
    ]
    report.nat = why_not(Conntrack(None)) or None
    try:
        # Ctrl-C in a callback of libbpf would be printed and forgotten
        probes = _in_thread("doctor-load", lambda: load(choice))
    except LoadError as error:
        report.error = str(error)
        return report
    with probes:
        report.loader = probes.loader
        for program, row in zip(PROGRAMS, report.programs, strict=True):
            if program.name in probes.programs:
                row.loaded = True
                _try(report, row, program, probes.programs[program.name])
            else:
                row.reason = probes.missing[program.name]
    works: dict[str, bool] = {}
    for row in report.programs:  # better ones come first
        row.needed = not works.get(row.instead_of, False)
        works[row.name] = row.works
    return report


def _try(report: Report, row: ProgramReport, program: Program, fd: int) -> None:
    try:
        if program.kind == "tc":
            report.tc = _in_private_netns(lambda: _attach_tc(fd, program.hook == "egress"))
        elif program.kind == "raw_tp":
            os.close(bpf.attach_raw_tracepoint(fd, program.hook))
        elif program.kind in ("tp_btf", "fentry"):
            os.close(bpf.attach_traced(fd))
        elif program.kind in ("kprobe", "kretprobe"):
            returns = program.kind == "kretprobe"
            os.close(perf.attach_kprobe(fd, program.hook, returns=returns))
        elif program.kind == "cgroup":
            _attach_cgroup(fd, program.attach_type)
        else:
            _run_iterator(fd)
    except _Untried as untried:
        row.reason = f"not tried on its hook: {untried}"
    except OSError as error:
        row.attached = False
        row.reason = error.strerror or str(error)
    else:
        row.attached = True


class _Untried(Exception):
    """The place to try it in could not be made."""


def _attach_tc(fd: int, egress: bool) -> TcMethod:
    try:
        os.close(bpf.attach_tcx(fd, _LOOPBACK, egress))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    else:
        return "tcx"
    bpf.attach_clsact(fd, _LOOPBACK, egress)
    bpf.detach_clsact(_LOOPBACK, egress)
    return "clsact"


def _run_iterator(fd: int) -> None:
    link = bpf.attach_iterator(fd)
    try:
        bpf.read_iterator(link)
    finally:
        os.close(link)


def _attach_cgroup(fd: int, attach_type: int) -> None:
    root, _ = find_mount()
    if root is None:
        raise OSError(errno.ENOENT, NO_CGROUP)
    try:
        folder = Path(tempfile.mkdtemp(prefix="flowobs-doctor-", dir=root))
    except OSError as error:
        raise _Untried(f"cannot make a cgroup in {root}: {error.strerror}") from error
    try:
        os.close(bpf.attach_cgroup(fd, folder, attach_type))
    finally:
        folder.rmdir()


def _in_private_netns(work: Callable[[], T]) -> T:
    """The result of ``work`` in a thread with a new network namespace; both are gone afterwards."""

    def inside() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            reason = os.strerror(ctypes.get_errno())
            raise _Untried(f"cannot make a network namespace: {reason}")
        return work()

    return _in_thread("doctor-netns", inside)


def _in_thread(name: str, work: Callable[[], T]) -> T:
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()
    return done.result()
