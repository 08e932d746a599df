"""Which namespaces belong to an observed one."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowobs.agent import scope
from flowobs.agent.scope import Scope

pytestmark = pytest.mark.root


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


@pytest.fixture
def names() -> Iterator[dict[str, str]]:
    """``node`` has a veth to ``pod``; ``other`` stands alone."""
    made = {n: f"fosc{os.getpid()}-{n}" for n in ("node", "pod", "other")}
    try:
        for name in made.values():
            ip(f"netns add {name}")
        yield made
    finally:
        for name in made.values():
            ip(f"netns del {name}")


def inode(name: str) -> int:
    return Path(f"/run/netns/{name}").stat().st_ino


def test_a_namespace_and_its_neighbours_are_inside(
    names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scope, "_ASK_AGAIN_S", 0.05)
    seen = Scope(f"/run/netns/{names['node']}")
    try:
        assert inode(names["node"]) in seen
        assert inode(names["pod"]) not in seen
        ip(f"-n {names['node']} link add v0 type veth peer name eth0 netns {names['pod']}")
        ip(
            f"-n {names['node']} link show"
        )  # the kernel numbers the neighbour when a link is listed
        time.sleep(0.1)
        assert inode(names["pod"]) in seen
        assert inode(names["other"]) not in seen
        assert Path("/proc/self/ns/net").stat().st_ino not in seen
        assert 1 not in seen and "text" not in seen
    finally:
        seen.close()


def test_strangers_are_not_looked_for_each_time(
    names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Scope(f"/run/netns/{names['node']}")
    try:
        looks: list[int] = []
        monkeypatch.setattr(seen, "_is_peer", lambda i: bool(looks.append(i)))
        for _ in range(100):
            assert 12345 not in seen
        assert looks == [12345]
    finally:
        seen.close()
