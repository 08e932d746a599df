"""The place of a local socket's owner: what its cgroup says, by the kernel's word or by /proc."""

from __future__ import annotations

from pathlib import Path

from flowobs.identity import cgroup
from flowobs.identity.cgroup_paths import CgroupPaths
from flowobs.identity.source import Socket


class Places:
    """Cgroups of sockets on this machine. ``hybrid``: cgroup v1 hierarchies are used, too."""

    def __init__(
        self, cgroups: CgroupPaths, *, hybrid: bool = False, proc: Path = Path("/proc")
    ) -> None:
        self.cgroups = cgroups
        self._hybrid = hybrid
        self._proc = proc

    def place(self, socket: Socket) -> cgroup.Place:
        """The container or unit; empty where there is none."""
        path = self._path(socket)
        place = cgroup.parse(path) if path else cgroup.Place()
        settled = (
            place.kind in (cgroup.CONTAINER, cgroup.GUEST)
            if self._hybrid
            else path not in (None, "/")
        )
        if settled or not socket.pid:
            return place
        beside = cgroup.parse_process(self._process(socket.pid))
        return beside if beside.kind == cgroup.CONTAINER or not place.kind else place

    def pod(self, socket: Socket) -> cgroup.PodPlace | None:
        """The pod's container, as Kubernetes lays out cgroups; None outside of pods."""
        path = self._path(socket)
        found = cgroup.parse_pod(path) if path else None
        if found is not None or (path not in (None, "/") and not self._hybrid) or not socket.pid:
            return found
        lines = self._process(socket.pid).splitlines()
        pods = (cgroup.parse_pod(line.split(":", 2)[-1]) for line in lines)
        return next((pod for pod in pods if pod is not None), None)

    def _path(self, socket: Socket) -> str | None:
        return self.cgroups.path(socket.cgroup) if socket.cgroup else None

    def _process(self, pid: int) -> str:
        """/proc/PID/cgroup; empty where the process has ended."""
        try:
            return (self._proc / str(pid) / "cgroup").read_text(errors="replace")
        except OSError:
            return ""
