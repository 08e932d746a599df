"""flowobs-relay with a cluster to watch: its options, its status, its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import ConfigError
from relay.identity.cluster import find_access
from tests.busy import within
from tests.kubernetes import things
from tests.kubernetes.fakes import in_a_thread, kubeconfig
from tests.relay.process import running, wait_for
from tests.relay.test_server import refused


def test_a_wrong_kubeconfig_is_one_sentence(tmp_path: Path) -> None:
    sentence = refused("--kubernetes", str(tmp_path / "none"), code=2)
    assert "--kubernetes" in sentence and "none: cannot be read" in sentence


def test_which_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert find_access("off") is None
    assert find_access("auto") is None, "this is no pod"
    file = str(kubeconfig(tmp_path, "http://127.0.0.1:1"))
    found, renamed = find_access(file), find_access(file, "prod")
    assert found is not None and found.cluster == "demo"
    assert renamed is not None and renamed.cluster == "prod"
    monkeypatch.setattr("flowobs.kubernetes.access.SERVICE_ACCOUNT", tmp_path)
    assert find_access("auto") is None, "nor is this"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ConfigError, match=r"--kubernetes auto: .*ca.crt: cannot be read"):
        find_access("auto")


def test_a_relay_that_watches(tmp_path: Path) -> None:
    with in_a_thread() as api:
        api.put("nodes", things.node("node-1", "192.0.2.1"))
        config = str(kubeconfig(tmp_path, api.url))
        options = ("--kubernetes", config, "--cluster-name", "prod")
        with running(tmp_path, *options) as relay, relay.client() as client:
            wait_for(lambda: client.get("/api/v1/status").json()["identity"]["ready"])
            found = client.get("/api/v1/status").json()["identity"]
            assert found["cluster"] == "prod" and found["agents"] == []
            assert {"resource": "nodes", "objects": 1, "stale": False, "off": False}.items() <= {
                key: value for key, value in found["resources"][0].items() if key != "age_s"
            }.items()
            wait_for(
                lambda: (
                    'flowobs_relay_identity_objects{resource="nodes"} 1.0'
                    in client.get("/metrics").text
                )
            )
            with within(3):
                relay.stop()


def test_a_relay_outside_of_clusters(tmp_path: Path) -> None:
    with running(tmp_path, "--kubernetes", "off") as relay, relay.client() as client:
        assert client.get("/api/v1/status").json()["identity"] is None
