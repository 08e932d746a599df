"""How we share the CPUs with the applications beside us."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

NICE = 10
"""By so much we are nicer than we were started: a ninth of a share where all want the CPU."""
HURRY_SECONDS = 5.0
_SLICE_NS = 10_000_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "ppc64le": 355, "s390x": 345}
_ATTR = struct.Struct("=IIQiIQQQ")  # struct sched_attr as of Linux 3.14, sched_setattr(2)
_AUTOGROUP = Path("/proc/self/autogroup")

_libc = ctypes.CDLL(None, use_errno=True)
_log = logging.getLogger(__name__)


class Pace:
    """Lets others go first, and takes a full share while there is a backlog.

    All threads do: one that waits for its turn may hold what another one needs. Who may not take
    its share back keeps it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._usual = os.getpriority(os.PRIO_PROCESS, 0)
        self._low = min(19, self._usual + NICE)
        if not _comes_back(self._usual):
            self._low = self._usual
            _log.warning("other programs do not go first: it takes CAP_SYS_NICE to hurry again")
        self._hurried = True
        self._until = clock()

    def note(self, behind: bool) -> None:
        """To be called again and again, with whether we are about to lose something."""
        now = self._clock()
        if behind:
            self._until = now + HURRY_SECONDS
        if self._hurried != (now < self._until):
            self._hurried = not self._hurried
            _place(self._usual if self._hurried else self._low)


def _comes_back(nice: int) -> bool:
    """Whether a thread that was made nicer may be as before. Tried: a limit may allow it, too."""
    done = []

    def attempt() -> None:
        with contextlib.suppress(OSError):
            for each in (nice + 1, nice):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), each)
            done.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(done)


def _place(nice: int) -> None:
    """Give all threads, and those they will start, a priority. A sandbox may refuse it.

    SCHED_BATCH wakes up without preempting anybody. Since Linux 6.12 whoever wakes up with a
    shorter slice than ours preempts us, if it is due; a lower priority has it due sooner.
    """
    attr = _ATTR.pack(_ATTR.size, os.SCHED_BATCH, 0, nice, 0, _SLICE_NS, 0, 0)
    number = _SCHED_SETATTR.get(platform.machine())
    for task in Path("/proc/self/task").iterdir():
        # or it has ended meanwhile
        with contextlib.suppress(OSError):
            os.sched_setscheduler(int(task.name), os.SCHED_BATCH, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
            if number is not None:
                _libc.syscall(number, int(task.name), attr, 0)  # older kernels ignore the slice
    # Where sessions share the CPUs (autogroup), a priority counts within ours only. One that we
    # have not begun is not ours alone.
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            _AUTOGROUP.write_text(str(nice))
