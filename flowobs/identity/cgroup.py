"""What a cgroup path says: container, systemd unit or other service. Pure functions over text."""

from __future__ import annotations

import re
from typing import NamedTuple

CONTAINER = "Container"
UNIT = "SystemdUnit"
GUEST = "Guest"
"""A virtual machine around containers (Kata): which one in it had a socket cannot be seen here."""
MONITORS = ("qemu-system-", "cloud-hyperviso", "firecracker")
"""How commands of virtual machine monitors begin, cut to 15 characters by the kernel."""

_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
# conmon is the runtime's helper beside a container, not the container
_MONITOR = re.compile(r"[a-z]+-conmon-$")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_KATA = re.compile(r"/kata_overhead(?:/([^/]+))?")
_LXC = re.compile(r"^/lxc(?:/|\.payload[./])([^/]+)")
_TALOS = re.compile(r"^/(?:podruntime|system)/([^/]+)")
_SHORT = 12
# Uid of a pod (systemd's names have _ for -), or the hash that stands for a static pod's.
_POD = re.compile(
    r"(?<![0-9a-z])pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-f])"
)


class Place(NamedTuple):
    """What stands behind a cgroup; empty where the path says nothing (root, a login session)."""

    kind: str = ""
    """``CONTAINER``, ``GUEST``, ``UNIT``, or the name of another init's services."""
    name: str = ""
    """Short container or sandbox id (12 hex digits), LXC container, or unit with its escapes
    undone.
    """


def parse(path: str) -> Place:
    """The innermost container of ``path``, or else its innermost unit."""
    if kata := _KATA.search(path):
        return Place(GUEST, (kata[1] or "kata")[:_SHORT])
    containers = [
        m[0] for m in _CONTAINER_ID.finditer(path) if not _MONITOR.search(path, 0, m.start())
    ]
    if containers:
        return Place(CONTAINER, containers[-1][:_SHORT])
    if lxc := _LXC.match(path):
        return Place(CONTAINER, lxc[1])
    if talos := _TALOS.match(path):
        return Place("TalosService", talos[1])
    units = [part for part in path.split("/") if part.endswith((".service", ".scope"))]
    if not units or _CONTAINER_ID.search(units[-1]):
        return Place()
    # Scopes in a user's slice are login sessions and desktop windows: the process says more.
    # init.scope is PID 1.
    if units[-1].endswith(".scope") and ("user.slice" in path or units[-1] == "init.scope"):
        return Place()
    return Place(UNIT, unescape(units[-1]))


class PodPlace(NamedTuple):
    """A pod's cgroup, or one below it."""

    pod: str
    """Uid, or config hash of a static pod."""
    container: str
    """The whole id (64 hex digits); empty in the pod's own cgroup."""


def parse_pod(path: str) -> PodPlace | None:
    """The innermost pod of ``path`` with its container; None outside of pods."""
    pods = list(_POD.finditer(path))
    if not pods:
        return None
    containers = [
        m[0]
        for m in _CONTAINER_ID.finditer(path, pods[-1].end())
        if not _MONITOR.search(path, 0, m.start())
    ]
    return PodPlace(pods[-1][1].replace("_", "-"), containers[-1] if containers else "")


def parse_process(text: str) -> Place:
    """What /proc/PID/cgroup says (lines of ``N:controllers:path``).

    Where cgroup v1 and v2 are mixed, a container may be in any hierarchy: one that Kubernetes made
    is believed first, then v2 (``0::``).
    """
    paths: list[tuple[int, str]] = []
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        path = rest.partition(":")[2]
        paths.append((0 if "kubepods" in path else 1 if number == "0" else 2, path))
    places = [parse(path) for _, path in sorted(paths, key=lambda p: p[0])]
    for place in places:
        if place.kind == CONTAINER:
            return place
    return next((place for place in places if place.kind), Place())


def unescape(unit: str) -> str:
    r"""A unit's name as people write it: systemd escapes characters as ``\x2d``."""
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)), unit)
