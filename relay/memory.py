"""Memory of this process outside the engine: glibc keeps what threads freed unless it is told not
to. The engine has an allocator of its own, bounded by ``store.engine.Limits``.
"""

from __future__ import annotations

import ctypes
from typing import Final

_ARENA_MAX: Final = -8  # M_ARENA_MAX of malloc.h
_ARENAS: Final = 2

_libc = ctypes.CDLL(None)


def bound() -> None:
    """Let all threads share two heaps: by default there are eight for each core, each as large as
    its thread's largest answer was. Call it before there are threads."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_ARENA_MAX, _ARENAS)


def trim() -> None:
    """Give freed memory back to the system; takes a few milliseconds."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
