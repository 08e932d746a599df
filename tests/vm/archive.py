"""An initramfs: a cpio archive (format "newc") that the kernel unpacks into its first root."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO


class Archive:
    """Writes files to ``out``. Folders above a file are made; what is there already stays."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._names: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name.strip("/") in self._names

    def file(self, name: str, data: bytes, *, executable: bool = False, mtime: int = 0) -> None:
        self._add(name, stat.S_IFREG | (0o755 if executable else 0o644), data, mtime)

    def copy(self, source: Path, name: str = "") -> None:
        """A file, under its own path unless told another; what a symlink leads to, not the link."""
        status = source.stat()
        executable = bool(status.st_mode & 0o100)
        # Python takes compiled files only where their source's time is right: it saves 10 s.
        mtime = int(status.st_mtime)
        self.file(name or str(source), source.read_bytes(), executable=executable, mtime=mtime)

    def tree(self, source: Path, name: str = "", *, without: frozenset[str] = frozenset()) -> None:
        """A folder with all below it, but nothing called as in ``without``."""
        for path in sorted(source.iterdir()):
            if path.name in without:
                continue
            below = f"{name or source}/{path.name}"
            if path.is_dir():
                self.tree(path, below, without=without)
            elif path.is_file():
                self.copy(path, below)

    def link(self, name: str, target: str) -> None:
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def folder(self, name: str) -> None:
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def close(self) -> None:
        """Write the end mark. The kernel reads several archives one behind the other."""
        self._names.discard("TRAILER!!!")
        self._add("TRAILER!!!", 0, b"")

    def _add(self, name: str, mode: int, data: bytes, mtime: int = 0) -> None:
        name = name.strip("/")
        if name in self._names:
            return
        parent = name.rpartition("/")[0]
        if parent:
            self.folder(parent)
        self._names.add(name)
        # magic; inode, mode, uid, gid, links, mtime, size, four device numbers, name size, check
        fields = (len(self._names), mode, 0, 0, 1, mtime, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = "070701" + "".join(f"{field:08x}" for field in fields)
        self._out.write(_padded(head.encode() + name.encode() + b"\0"))
        self._out.write(_padded(data))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
