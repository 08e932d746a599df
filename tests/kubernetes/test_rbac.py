"""deploy/rbac.yaml allows what is watched, and nothing more."""

from __future__ import annotations

from pathlib import Path

import yaml

from flowobs.kubernetes.resources import RESOURCES

MANIFEST = Path(__file__).parents[2] / "deploy/rbac.yaml"


def test_rbac_is_minimal() -> None:
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    (role,) = [d for d in documents if d["kind"] == "ClusterRole"]
    allowed = {(group, r) for rule in role["rules"] for group in rule["apiGroups"]
               for r in rule["resources"]}  # fmt: skip
    wanted = {("" if r.path.startswith("/api/") else r.path.split("/")[2], r.name)
              for r in RESOURCES}  # fmt: skip
    assert allowed == wanted
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"list", "watch"}
    (binding,) = [d for d in documents if d["kind"] == "ClusterRoleBinding"]
    (account,) = [d for d in documents if d["kind"] == "ServiceAccount"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
