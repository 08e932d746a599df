"""cgroup id -> path: ids are the inode numbers of the folders of the cgroup v2 mount."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

_WALK_EVERY_S = 1.0
_MAX_FOLDERS = 1 << 16
_MAX_UNKNOWN = 1024


def find_mount(mounts: Path = Path("/proc/mounts")) -> tuple[Path | None, bool]:
    """Where cgroup v2 is mounted (None: nowhere), and whether there are cgroup v1 hierarchies."""
    folders: dict[str, str] = {}
    for line in mounts.read_text().splitlines():
        _, folder, kind, *_ = line.split()
        folders.setdefault(kind, folder)
    mount = folders.get("cgroup2")
    return (Path(mount) if mount else None), "cgroup" in folders


class CgroupPaths:
    """Paths of cgroups by id, from walking ``mount`` when an id is new, at most once a second;
    none where there is no mount.

    The path of a cgroup that is gone stays known, up to ``_MAX_FOLDERS`` in all: records about it
    may be late. Ids are never used twice (they hold a generation number).
    """

    def __init__(self, mount: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.mount = mount
        self.walks = 0
        self._clock = clock
        self._paths: OrderedDict[int, str] = OrderedDict()
        self._next_walk = 0.0
        self._unknown: set[int] = set()

    def path(self, cgroup: int) -> str | None:
        """The path below the mount ("/" is the root), or None where no folder has that id (now)."""
        found = self._paths.get(cgroup)
        if found is None and self._walk():
            found = self._paths.get(cgroup)
        if found is None and len(self._unknown) < _MAX_UNKNOWN:
            self._unknown.add(cgroup)
        return found

    def retry(self) -> bool:
        """Look once more for ids that were asked for in vain; True if one is there now."""
        if not self._unknown or not self._walk():
            return False
        tried, self._unknown = self._unknown, set()
        return any(cgroup in self._paths for cgroup in tried)

    def _walk(self) -> bool:
        """Read all folders. False where it is too early for that."""
        now = self._clock()
        if now < self._next_walk or self.mount is None:
            return False
        self.walks += 1
        paths = self._paths.copy()
        pending = [(os.fspath(self.mount), "/")]
        budget = _MAX_FOLDERS
        if (root := _inode(self.mount)) is not None:
            paths[root] = "/"
        while pending and budget:
            folder, path = pending.pop()
            try:
                with os.scandir(folder) as entries:
                    below = [
                        (e.inode(), e.name) for e in entries if e.is_dir(follow_symlinks=False)
                    ]
            except OSError:  # it was removed, or may not be read
                continue
            for inode, name in below[:budget]:
                child = f"{path.rstrip('/')}/{name}"
                paths[inode] = child
                paths.move_to_end(inode)
                pending.append((f"{folder}/{name}", child))
            budget -= min(budget, len(below))
        while len(paths) > _MAX_FOLDERS:
            paths.popitem(last=False)
        self._paths = paths
        self._next_walk = self._clock() + _WALK_EVERY_S
        return True


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
