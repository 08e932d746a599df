"""deploy/rbac.yaml allows what is watched, by relay and agent, and nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flowobs.kubernetes.resources import EXTRA, RESOURCES, Resource

MANIFEST = Path(__file__).parents[2] / "deploy/rbac.yaml"


@pytest.mark.parametrize(
    ("who", "watched"),
    [("flowobs-relay", (*RESOURCES, *EXTRA)), ("flowobs-agent", RESOURCES)],
)
def test_rbac_is_minimal(who: str, watched: tuple[Resource, ...]) -> None:
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    role, binding, account = (
        next(d for d in documents if d["kind"] == kind and d["metadata"]["name"] == who)
        for kind in ("ClusterRole", "ClusterRoleBinding", "ServiceAccount")
    )
    allowed = [(group, r) for rule in role["rules"] for group in rule["apiGroups"]
               for r in rule["resources"]]  # fmt: skip
    wanted = [("" if r.path.startswith("/api/") else r.path.split("/")[2], r.name)
              for r in watched]  # fmt: skip
    assert sorted(allowed) == sorted(wanted)
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"list", "watch"}
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": who
    }  # fmt: skip
    (subject,) = binding["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": who, "namespace": "flowobs"}
    assert account["metadata"]["namespace"] == "flowobs"


def test_nothing_else_is_allowed() -> None:
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    kinds = sorted(d["kind"] for d in documents)
    assert kinds == sorted(
        ["Namespace", *["ServiceAccount", "ClusterRole", "ClusterRoleBinding"] * 2]
    )
