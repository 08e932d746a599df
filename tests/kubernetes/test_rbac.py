"""deploy/rbac.yaml allows what is watched, by relay and agent, and nothing more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from flowobs.kubernetes.resources import EXTRA, RESOURCES, Resource
from flowobs.kubernetes.table import Table
from flowobs.kubernetes.watch import ClusterWatch
from tests.kubernetes.fake_api import PATHS, FakeApi
from tests.kubernetes.fakes import QUICK, access, until

MANIFEST = Path(__file__).parents[2] / "deploy/rbac.yaml"


WHO = [
    ("flowobs-relay", "", (*RESOURCES, *EXTRA)),
    ("flowobs-agent", "node-1", RESOURCES),
]


@pytest.mark.parametrize(("who", "node", "watched"), WHO)
async def test_rbac_allows_what_is_asked_for_and_no_more(
    who: str, node: str, watched: tuple[Resource, ...]
) -> None:
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    role, binding, account = (
        next(d for d in documents if d["kind"] == kind and d["metadata"]["name"] == who)
        for kind in ("ClusterRole", "ClusterRoleBinding", "ServiceAccount")
    )
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert await asked_for(node, watched) == allowed
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": who
    }  # fmt: skip
    (subject,) = binding["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": who, "namespace": "flowobs"}
    assert account["metadata"]["namespace"] == "flowobs"


async def asked_for(node: str, watched: tuple[Resource, ...]) -> set[tuple[str, str, str]]:
    """Group, resource and verb of all requests, to a server that knows no streaming lists."""
    groups = {name: group.rpartition("/")[0] for name, _, group in PATHS.values()}
    async with FakeApi() as api:
        api.faults.streaming = "forbidden"
        watch = ClusterWatch(access(api), Table(node=node), resources=watched, timing=QUICK)
        task = asyncio.create_task(watch.run())
        await until(lambda: api.watches == len(watched))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return {
            (groups[r.resource], r.resource, "watch" if r.query.watch else "list")
            for r in api.requests
        }


def test_nothing_else_is_allowed() -> None:
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    kinds = sorted(d["kind"] for d in documents)
    assert kinds == sorted(
        ["Namespace", *["ServiceAccount", "ClusterRole", "ClusterRoleBinding"] * 2]
    )
