"""Workloads: names are cut only where something says that their end was generated."""

from __future__ import annotations

import pytest

from flowobs.identity import numbers
from flowobs.kubernetes import workload
from flowobs.kubernetes.objects import Owner

MADE_NS = 29_921_810 * 60 * 1_000_000_000


@pytest.mark.parametrize(
    ("kind", "owner", "labels", "expected"),
    [
        ("ReplicaSet", "web-7887448d46", {"pod-template-hash": "7887448d46"}, "Deployment/web"),
        ("ReplicaSet", "foo-bar", {}, "ReplicaSet/foo-bar"),
        ("ReplicaSet", "foo-bar", {"pod-template-hash": "ar"}, "ReplicaSet/foo-bar"),
        ("ReplicaSet", "-abc", {"pod-template-hash": "abc"}, "ReplicaSet/-abc"),
        ("Job", "tick-29921810", {}, "CronJob/tick"),
        ("Job", "tick-1795308600", {}, "CronJob/tick"),
        ("Job", "db-migrate", {}, "Job/db-migrate"),
        ("Job", "once", {}, "Job/once"),
        ("Job", "backup-20261122", {}, "Job/backup-20261122"),
        ("Job", "import-1234567", {}, "Job/import-1234567"),
        ("ReplicationController", "api-3", {"deploymentconfig": "api"}, "DeploymentConfig/api"),
        ("ReplicationController", "api-3", {}, "ReplicationController/api-3"),
        ("StatefulSet", "db", {}, "StatefulSet/db"),
        ("DaemonSet", "agent", {}, "DaemonSet/agent"),
    ],
)
def test_of_pod(kind: str, owner: str, labels: dict[str, str], expected: str) -> None:
    owners = [Owner("Thing", "other"), Owner(kind, owner, controller=True)]
    assert "/".join(workload.of_pod("pod", labels, owners, MADE_NS)) == expected


def test_a_pod_of_nobody_is_its_own_workload() -> None:
    assert workload.of_pod("p", {}, [], None) == ("Pod", "p")
    assert workload.of_pod("p", {}, [Owner("ReplicaSet", "x")], None) == ("Pod", "p")


def test_identities_are_stable_and_the_same_for_all_replicas() -> None:
    one = {"app": "web", "pod-template-hash": "1", "apps.kubernetes.io/pod-index": "0"}
    two = {"pod-template-hash": "2", "app": "web", "apps.kubernetes.io/pod-index": "1"}
    assert numbers.of_labels("c", "shop", one) == numbers.of_labels("c", "shop", two)
    assert numbers.of_labels("c", "shop", one) == 1022676628, "in every agent, after every start"
    different = {
        numbers.of_labels(cluster, namespace, labels)
        for cluster in ("c", "d")
        for namespace in ("shop", "bank")
        for labels in ({}, {"app": "web"}, {"app.kubernetes.io/name": "web"})
    }
    assert len(different) == 12
    assert all(numbers.FIRST <= n < 1 << 32 for n in different)


def test_reserved_numbers_are_hubbles() -> None:
    assert [r.name for r in numbers.Reserved] == [
        "unknown", "host", "world", "unmanaged", "health", "init", "remote_node",
        "kube_apiserver", "ingress",
    ]  # fmt: skip
    assert [int(r) for r in numbers.Reserved] == list(range(9))
