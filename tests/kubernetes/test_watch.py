"""When names count as known."""

from __future__ import annotations

import pytest

from flowobs.kubernetes import watch
from flowobs.kubernetes.access import Access
from flowobs.kubernetes.objects import Object
from flowobs.kubernetes.resources import EXTRA, RESOURCES
from flowobs.kubernetes.watch import ClusterWatch
from tests.kubernetes.fakes import until


class Keeper:
    node = ""

    def __init__(self) -> None:
        self.settles = 0

    def put(self, thing: Object, since_ns: int | None) -> None: ...

    def remove(self, uid: str, at_ns: int) -> None: ...

    def settled(self) -> None:
        self.settles += 1


async def test_names_are_known_with_the_workloads_they_belong_to() -> None:
    keeper = Keeper()
    following = ClusterWatch(
        Access(server="http://127.0.0.1:9"), keeper, resources=(*RESOURCES, *EXTRA)
    )
    for resource in (*RESOURCES, *EXTRA):
        assert keeper.settles == 0
        following.synced(resource)
    assert keeper.settles == 1
    following.synced(EXTRA[0])
    following.synced(RESOURCES[0])
    assert keeper.settles == 2, "a list of an extra is no gap of names"


async def test_names_do_not_wait_long_for_what_they_can_do_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "EXTRA_SECONDS", 0.05)
    keeper = Keeper()
    following = ClusterWatch(
        Access(server="http://127.0.0.1:9"), keeper, resources=(*RESOURCES, *EXTRA)
    )
    for resource in RESOURCES:
        following.synced(resource)
    assert keeper.settles == 0
    await until(lambda: keeper.settles == 1)
