"""Events that this machine's kernel keeps from programs, so that no agent could tell of them.

The kernels of some sandboxes run no tracing program while a thread of process 1 is the current
one: of 124 softirqs that interrupted such a thread, none ran a program on ``softirq_entry``; of
7,579 others, each did. The tracepoint fires all the same, and the kernel counts no miss. A segment
sent again in such a softirq is in ``ss``, not in our records.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import re
import tempfile
from pathlib import Path

_EVENTS = (
    "tcp/tcp_retransmit_skb", "tcp/tcp_retransmit_synack", "tcp/tcp_send_reset",
    "tcp/tcp_receive_reset", "sock/inet_sock_set_state", "skb/kfree_skb",
)  # fmt: skip
"""What our programs are attached to."""
_LINE = re.compile(r".*?-\d+ +\( *(\d+|-+)\) ")
"""Task, thread, process; a process that was not noted is dashes."""
_DETACH = 2  # MNT_DETACH
_libc = ctypes.CDLL(None, use_errno=True)


class Unseen:
    """Has the kernel note such events. Needs root; raises OSError where there is no tracefs.

    Several may be open at a time. ``process``: whose threads are left alone.
    """

    def __init__(self, process: int = 1) -> None:
        self._process = str(process)
        folder = tempfile.mkdtemp(prefix="flowobs-tracefs-")
        try:
            if _libc.mount(b"none", folder.encode(), b"tracefs", 0, None):
                raise OSError(ctypes.get_errno(), "cannot mount tracefs")
            try:
                self._root = os.open(folder, os.O_PATH)
            finally:  # the descriptor holds it
                _libc.umount2(folder.encode(), _DETACH)
        finally:
            Path(folder).rmdir()
        self._instance = Path(f"/proc/self/fd/{self._root}/instances/{Path(folder).name}")
        self._instance.mkdir()
        for option in ("event-fork", "record-tgid"):  # threads that it begins later, too
            (self._instance / "options" / option).write_text("1")
        self.clear()
        for event in _EVENTS:
            switch = self._instance / "events" / event / "enable"
            if switch.exists():
                switch.write_text("1")

    def clear(self) -> None:
        """Begin to count."""
        threads = " ".join(t.name for t in Path(f"/proc/{self._process}/task").iterdir())
        (self._instance / "set_event_pid").write_text(threads)
        (self._instance / "trace").write_text("")

    def count(self, event: str = "") -> int:
        """Events since then; those of one tracepoint where it is given."""
        wanted = f": {event}: " if event else ""
        lines = map(_LINE.match, (self._instance / "trace").read_text().splitlines())
        # its children are listened to as well, but programs run in them
        own = (line for line in lines if line and line[1] in (self._process, "-------"))
        return sum(wanted in line.string for line in own)

    def close(self) -> None:
        self._instance.rmdir()
        os.close(self._root)


def kept(event: str) -> int:
    """How often a tracepoint ran no program, since the test began: among thousands, the number is
    reckoned with.
    """
    noted = unseen()
    return noted.count(event) if noted else 0


@functools.cache
def unseen() -> Unseen | None:
    """That of this run of the tests; None without root or tracefs."""
    try:
        made = Unseen()
    except OSError:
        return None
    atexit.register(made.close)
    return made
