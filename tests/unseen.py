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
import tempfile
from pathlib import Path

_EVENTS = (
    "tcp/tcp_retransmit_skb", "tcp/tcp_retransmit_synack", "tcp/tcp_send_reset",
    "tcp/tcp_receive_reset", "sock/inet_sock_set_state", "skb/kfree_skb",
)  # fmt: skip
"""What our programs are attached to."""
_DETACH = 2  # MNT_DETACH
_libc = ctypes.CDLL(None, use_errno=True)


class Unseen:
    """Has the kernel note such events. Needs root; raises OSError where there is no tracefs.

    Several may be open at a time. ``process``: whose threads are left alone.
    """

    def __init__(self, process: int = 1) -> None:
        self._threads = Path(f"/proc/{process}/task")
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
        self.clear()
        for event in _EVENTS:
            switch = self._instance / "events" / event / "enable"
            if switch.exists():
                switch.write_text("1")

    def clear(self) -> None:
        """Begin to count."""
        threads = " ".join(thread.name for thread in self._threads.iterdir())
        (self._instance / "set_event_pid").write_text(threads)
        (self._instance / "trace").write_text("")

    def count(self) -> int:
        """Events since then."""
        lines = (self._instance / "trace").read_text().splitlines()
        return sum(not line.startswith("#") for line in lines)

    def close(self) -> None:
        self._instance.rmdir()
        os.close(self._root)


@functools.cache
def unseen() -> Unseen | None:
    """That of this run of the tests; None without root or tracefs."""
    try:
        made = Unseen()
    except OSError:
        return None
    atexit.register(made.close)
    return made
