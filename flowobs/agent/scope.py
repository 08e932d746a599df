"""Which network namespaces belong to an observed one: itself, and those its veths lead to."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from flowobs.agent import netlink, netns

_ASK_AGAIN_S = 1.0
_MAX_REFUSED = 4096


class Scope:
    """The inodes of the namespace at ``path`` and of its neighbours (pods, containers), as a set.

    A neighbour is looked for when its inode is first asked for: among the namespaces with a name
    and those of processes. ``inode in scope`` costs a scan of /proc then, and for a stranger once a
    second at most. Raises OSError where the namespace cannot be entered.
    """

    def __init__(self, path: str) -> None:
        self._inside = {Path(path).stat().st_ino}
        self._refused: dict[int, float] = {}
        self._lock = threading.Lock()
        self._socket: socket.socket = netns.call(path, lambda: netlink.open_socket(monitor=False))

    def __contains__(self, inode: object) -> bool:
        if inode in self._inside:
            return True
        if not isinstance(inode, int) or self._refused.get(inode, 0) > time.monotonic():
            return False
        with self._lock:
            if self._is_peer(inode):
                self._inside.add(inode)
                return True
        if len(self._refused) >= _MAX_REFUSED:
            self._refused.clear()
        self._refused[inode] = time.monotonic() + _ASK_AGAIN_S
        return False

    def close(self) -> None:
        self._socket.close()

    def _is_peer(self, inode: int) -> bool:
        for path in _namespaces():
            try:
                if os.stat(path).st_ino != inode:  # noqa: PTH116 (thousands of them)
                    continue
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # it has ended meanwhile, or is none of ours to look at
                continue
            try:
                return netlink.is_peer(self._socket, fd)
            except OSError:
                return False
            finally:
                os.close(fd)
        return False


def _namespaces() -> Iterator[str]:
    for folder, suffix in (("/run/netns", ""), ("/proc", "/ns/net")):
        try:
            names = os.listdir(folder)  # noqa: PTH208
        except OSError:
            continue
        for name in names:
            if not suffix or name.isdigit():
                yield f"{folder}/{name}{suffix}"
