"""How we share the CPUs with the applications beside us."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import time
from collections.abc import Callable
from pathlib import Path

NICE = 10
"""Higher than that of others, by so much: a ninth of their share where all want the CPU."""
HURRY_SECONDS = 5.0
_SLICE_NS = 10_000_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "ppc64le": 355, "s390x": 345}
_ATTR = struct.Struct("=IIQiIQQQ")  # struct sched_attr as of Linux 3.14, sched_setattr(2)
_AUTOGROUP = Path("/proc/self/autogroup")

_libc = ctypes.CDLL(None, use_errno=True)


def give_way() -> None:
    """Let others go first: this thread, and those that it will start. A sandbox may refuse it.

    SCHED_BATCH wakes up without preempting anybody. Since Linux 6.12 whoever wakes up with a
    shorter slice than ours preempts us; a lower priority has the scheduler think it due.
    """
    nice = min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    if number := _SCHED_SETATTR.get(platform.machine()):
        attr = _ATTR.pack(_ATTR.size, os.SCHED_BATCH, 0, nice, 0, _SLICE_NS, 0, 0)
        _libc.syscall(number, 0, attr, 0)  # older kernels do not look at the slice
    _renice_session(nice)


class Hurry:
    """Takes a full share while there is a backlog, and gives way again afterwards.

    All threads do: one that waits for its turn may hold what another one needs.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.hurried = False
        self._clock = clock
        self._usual = os.getpriority(os.PRIO_PROCESS, 0)
        self._until = 0.0

    def note(self, behind: bool) -> None:
        """To be called again and again, with whether we are about to lose something."""
        if not behind and not self.hurried:
            return
        now = self._clock()
        if behind:
            self._until = now + HURRY_SECONDS
        if self.hurried != (now < self._until):
            self.hurried = not self.hurried
            _renice(max(0, self._usual - NICE) if self.hurried else self._usual)


def _renice(nice: int) -> None:
    for task in Path("/proc/self/task").iterdir():
        # a thread that has ended meanwhile; or nobody let us: it takes CAP_SYS_NICE
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
    _renice_session(nice)


def _renice_session(nice: int) -> None:
    """Where sessions share the CPUs (autogroup), a priority counts within ours only.

    A session that we have not begun is not ours alone.
    """
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            _AUTOGROUP.write_text(str(nice))
