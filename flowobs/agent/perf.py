"""perf_event_open: a ring for one CPU in shared memory, and kprobes."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import struct
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_SYSCALL = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331}
_SOFTWARE, _BPF_OUTPUT, _SAMPLE_RAW = 1, 10, 1 << 10
_TIME_ENABLED = 1  # in read_format
_WATERMARK = 1 << 14  # bit of perf_event_attr's flags: wake up by bytes, not by events
_CLOEXEC = 1 << 3
_ENABLE, _SET_BPF = 0x2400, 0x40042408
_HEAD_AT, _TAIL_AT = 1024, 1032  # struct perf_event_mmap_page
_ACQUIRE, _RELEASE = 2, 3
WAKE_FRACTION = 8
"""A ring wakes its reader when one part in this many is full: a wake-up per event would cost
7 us inside the packet path."""

KPROBES = Path("/sys/bus/event_source/devices/kprobe")

_libc = ctypes.CDLL(None, use_errno=True)


class _Attr(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_watermark", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("kprobe_func", ctypes.c_char_p),
        ("probe_offset", ctypes.c_uint64),
        ("rest", ctypes.c_uint8 * 40),
    )


def _open(attr: _Attr, cpu: int) -> int:
    """perf_event_open; the fd, or a negative number with errno set."""
    machine = platform.machine()
    if machine not in _SYSCALL:
        raise OSError(0, f"no perf_event_open number is known for {machine}: please report it")
    attr.size = ctypes.sizeof(_Attr)
    fd: int = _libc.syscall(_SYSCALL[machine], ctypes.byref(attr), -1, cpu, -1, _CLOEXEC)
    return fd


def attach_kprobe(prog_fd: int, function: str, *, returns: bool) -> int:
    """Run a program when the kernel enters ``function``, or ``returns`` from it; the event's fd.

    Closing it detaches. Raises OSError with the reason in words, ENOENT where there is no such
    function, or no kprobes at all.
    """
    try:
        kind = int((KPROBES / "type").read_text())
        # "config:0" in general, and on every kernel so far
        bit = int((KPROBES / "format" / "retprobe").read_text().rpartition(":")[2])
    except OSError:
        raise OSError(
            errno.ENOENT, f"this kernel is built without kprobes ({KPROBES} is not there)"
        ) from None
    fd = _open(_Attr(type=kind, config=returns << bit, kprobe_func=function.encode()), 0)
    if fd < 0:
        raise _refused(function)
    try:
        for request, argument in ((_SET_BPF, prog_fd), (_ENABLE, 0)):
            if _libc.ioctl(fd, ctypes.c_ulong(request), ctypes.c_int(argument)) < 0:
                raise _refused(function)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _refused(function: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"cannot probe the kernel's function {function}: {os.strerror(code)}")


class Positions(Protocol):
    """The two words that kernel and reader share."""

    def load(self) -> tuple[int, int]: ...

    def store_tail(self, position: int) -> None: ...


class _OrderedPositions:
    """x86-64 keeps loads before loads and stores after loads: plain aligned moves are enough."""

    def __init__(self, page: NDArray[np.uint64]) -> None:
        self._words = page.data

    def load(self) -> tuple[int, int]:
        return self._words[_TAIL_AT // 8], self._words[_HEAD_AT // 8]

    def store_tail(self, position: int) -> None:
        self._words[_TAIL_AT // 8] = position


class AtomicPositions:
    """Everywhere else libatomic's acquire load and release store.

    Raises OSError with the next step where libatomic is not installed.
    """

    def __init__(self, page: NDArray[np.uint64]) -> None:
        try:
            library = ctypes.CDLL("libatomic.so.1")
        except OSError:
            raise OSError(
                f"reading the event ring on {platform.machine()} needs libatomic: "
                "install the package libatomic1"
            ) from None
        self._load = library["__atomic_load_8"]
        self._load.restype, self._load.argtypes = ctypes.c_uint64, (ctypes.c_void_p, ctypes.c_int)
        self._store = library["__atomic_store_8"]
        self._store.restype = None
        self._store.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int)
        self._page = page  # the addresses below live as long as it does
        self._head_at = page.ctypes.data + _HEAD_AT
        self._tail_at = page.ctypes.data + _TAIL_AT

    def load(self) -> tuple[int, int]:
        return int(self._page[_TAIL_AT // 8]), self._load(self._head_at, _ACQUIRE)

    def store_tail(self, position: int) -> None:
        self._store(self._tail_at, position, _RELEASE)


def positions(page: NDArray[np.uint64]) -> Positions:
    """Access to head and tail of a ring's control page that is safe on this machine."""
    return _OrderedPositions(page) if platform.machine() == "x86_64" else AtomicPositions(page)


def cpu_list(text: str) -> list[int]:
    """The kernel's way to write CPU numbers: "0-2,5" -> [0, 1, 2, 5]."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def online_cpus() -> list[int]:
    fd = os.open("/sys/devices/system/cpu/online", os.O_RDONLY)  # each second: no file object
    try:
        return cpu_list(os.read(fd, 4096).decode())
    finally:
        os.close(fd)


class Ring:
    """A BPF output ring of ``ring_bytes`` (a power of two, at least a page) on one CPU.

    Raises ValueError for another size, OSError where the kernel refuses, e.g. without CAP_PERFMON.
    """

    def __init__(self, cpu: int, ring_bytes: int) -> None:
        if ring_bytes < mmap.PAGESIZE or ring_bytes & (ring_bytes - 1):
            raise ValueError(
                f"a ring of {ring_bytes} bytes cannot be: take a power of two from {mmap.PAGESIZE}"
            )
        attr = _Attr(
            type=_SOFTWARE,
            config=_BPF_OUTPUT,
            sample_period=1,
            sample_type=_SAMPLE_RAW,
            read_format=_TIME_ENABLED,
            flags=_WATERMARK,
            wakeup_watermark=ring_bytes // WAKE_FRACTION,
        )
        fd = _open(attr, cpu)
        if fd < 0:
            code = ctypes.get_errno()
            raise OSError(
                code,
                f"no event ring on CPU {cpu}: {os.strerror(code)}; run as root or with CAP_PERFMON",
            )
        self.fd = fd
        try:
            self._map = mmap.mmap(fd, mmap.PAGESIZE + ring_bytes)
            page = np.frombuffer(self._map, np.uint64, count=mmap.PAGESIZE // 8)
            self._positions: Positions | None = positions(page)
        except BaseException:
            os.close(fd)
            raise
        self.data: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8, offset=mmap.PAGESIZE)
        """The circular data, shape (ring_bytes,)."""
        self._enabled_ns = 0

    def stands_still(self) -> bool:
        """Nothing can be written to it: its CPU went offline since the last call, and came back."""
        _, enabled_ns = struct.unpack("QQ", os.read(self.fd, 16))
        still: bool = enabled_ns == self._enabled_ns
        self._enabled_ns = enabled_ns
        return still

    def enable(self) -> None:
        fcntl.ioctl(self.fd, _ENABLE, 0)

    def positions(self) -> tuple[int, int]:
        """(tail, head): what was consumed and what was written, in bytes since the beginning."""
        assert self._positions is not None
        return self._positions.load()

    def consume(self, position: int) -> None:
        """Give everything before ``position`` back to the kernel."""
        assert self._positions is not None
        self._positions.store_tail(position)

    def close(self) -> None:
        # The map can only be unmapped once no array looks into it.
        self.data = np.empty(0, np.uint8)
        self._positions = None
        self._map.close()
        os.close(self.fd)
