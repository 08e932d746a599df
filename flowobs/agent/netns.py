"""Run something inside another network namespace without moving the process there."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


def enter(path: str) -> None:
    """Move the calling thread, and only it, into the network namespace at ``path``, for good.

    Raises OSError where the path is no network namespace or CAP_SYS_ADMIN is missing.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, _CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, f"cannot enter network namespace: {os.strerror(code)}", path)
    finally:
        os.close(fd)


def call(path: str | None, work: Callable[[], T]) -> T:
    """The result of ``work()``, run inside the namespace at ``path`` (None: this one).

    A thread is made for it and thrown away: one that has moved would take later callers along.
    """
    if path is None:
        return work()
    done: Future[T] = Future()

    def run() -> None:
        try:
            enter(path)
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="netns", daemon=True)
    thread.start()
    thread.join()
    return done.result()
