"""A compiled object file on its way into the kernel, by libbpf."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from flowobs.agent.bpf._lib import check, failure, lib

_LOG_BYTES = (1 << 24) - 1  # all that kernels before 5.2 take
_LOG_TAIL = 1 << 14  # the verdict is at the end


class BpfObject:
    """One ``.bpf.o``: choose, size and share, then ``load``. Close it once the fds are taken.

    Raises BpfError when the file cannot be opened or parsed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._object = lib().bpf_object__open_file(os.fsencode(path), None)
        if not self._object:
            raise failure(ctypes.get_errno(), f"cannot open {path}")
        programs = self._walk(lib().bpf_object__next_program)
        self._programs = {lib().bpf_program__name(p).decode(): p for p in programs}
        # .rodata, .bss and the like belong to this object alone.
        self._maps = {
            lib().bpf_map__name(m).decode(): m
            for m in self._walk(lib().bpf_object__next_map)
            if not lib().bpf_map__is_internal(m)
        }
        self._log: mmap.mmap | None = None

    def _walk(self, following: Any) -> Iterator[int]:
        item = following(self._object, None)
        while item:
            yield item
            item = following(self._object, item)

    @property
    def programs(self) -> list[str]:
        """Names of the programs in the file."""
        return list(self._programs)

    @property
    def maps(self) -> list[str]:
        """Names of the maps that the file declares."""
        return list(self._maps)

    def select(self, names: Collection[str]) -> None:
        """Load these programs only."""
        for name, program in self._programs.items():
            lib().bpf_program__set_autoload(program, name in names)

    def resize(self, name: str, max_entries: int) -> None:
        """Give a map another size than the file says."""
        check(
            lib().bpf_map__set_max_entries(self._maps[name], max_entries),
            f"cannot give map {name} {max_entries} entries",
        )

    def share(self, name: str, map_fd: int) -> None:
        """Use an existing map in place of a new one."""
        check(lib().bpf_map__reuse_fd(self._maps[name], map_fd), f"cannot share map {name}")

    def keep_log(self, name: str) -> None:
        """Have the verifier explain itself about one program; see ``log``. Slows the load down."""
        # Kernels before 6.4 fail a load whose log does not fit. Anonymous memory is only what is
        # written to it.
        self._log = mmap.mmap(-1, _LOG_BYTES)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._log))
        lib().bpf_program__set_log_buf(self._programs[name], address, _LOG_BYTES)
        lib().bpf_program__set_log_level(self._programs[name], 1)

    @property
    def log(self) -> str:
        """What the verifier said about the program of ``keep_log``: the end of it."""
        if self._log is None:
            return ""
        end = self._log.find(b"\0")
        return self._log[max(0, end - _LOG_TAIL) : end].decode(errors="replace")

    def load(self) -> None:
        """Create the maps and load the selected programs, all or none. Raises BpfError."""
        check(lib().bpf_object__load(self._object), f"cannot load {self._path.name}")

    def program_fd(self, name: str) -> int:
        """A file descriptor of a loaded program, the caller's own."""
        return _own(lib().bpf_program__fd(self._programs[name]))

    def map_fd(self, name: str) -> int:
        """A file descriptor of a created map, the caller's own."""
        return _own(lib().bpf_map__fd(self._maps[name]))

    def close(self) -> None:
        """Free libbpf's memory; programs and maps live on in the fds that were taken."""
        if self._object:
            lib().bpf_object__close(self._object)
            self._object = None

    def __enter__(self) -> BpfObject:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _own(fd: int) -> int:
    return fcntl.fcntl(check(fd, "not loaded"), fcntl.F_DUPFD_CLOEXEC, 3)
