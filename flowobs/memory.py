"""Memory of the agent: that it takes none that it does not use."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

# M_* of malloc.h
_MMAP_THRESHOLD: Final = -3
_TRIM_THRESHOLD: Final = -1


def bound() -> None:
    """Have malloc give large blocks back when they are freed.

    Left alone it keeps as much as the largest block ever was: the kernel's types are 6 MB.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, 4 << 20)  # arrays and messages of a batch are smaller
        libc.mallopt(_TRIM_THRESHOLD, 16 << 20)  # the next drain wants it again


def zeros(rows: int, dtype: DTypeLike) -> NDArray[Any]:
    """An array of at least one row, for tables of which little is used.

    What numpy's comes from has often been in use before, and is then cleared throughout.
    """
    size = rows * np.dtype(dtype).itemsize
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype)
