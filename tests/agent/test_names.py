"""The agent's sources of names, and what metrics say of them."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from flowobs.agent.config import AgentConfig
from flowobs.agent.metrics import Metrics
from flowobs.agent.names import Names
from flowobs.identity.cgroup_paths import CgroupPaths


def test_metrics_tell_of_an_inventory_file_that_cannot_be_used(tmp_path: Path) -> None:
    file, registry = tmp_path / "inventory.yaml", CollectorRegistry()
    file.write_text("hosts:\n- {name: db, addresses: [10.9.0.1]}\n")
    config = AgentConfig(relay="unix:///nobody.sock", inventory=file, identity="none")
    names = Names(config, "n1", CgroupPaths(None), Metrics(registry), hybrid=False, tls=None)
    resolver = names.start(frozenset)

    def told(name: str) -> float | None:
        names.measure()
        return registry.get_sample_value(
            f"flowobs_agent_identity_{name}", {"resource": "inventory"}
        )

    assert (told("objects"), told("stale"), told("age_seconds")) == (1, 0, 0)
    file.write_text("hosts: [{name: db, addresses: [10.9.0.1, 10.9.0.2]}")
    resolver.poll()
    assert (told("objects"), told("stale")) == (1, 1)
    file.write_text("hosts:\n- {name: db, addresses: [10.9.0.1, 10.9.0.2]}\n")
    resolver.poll()
    assert (told("objects"), told("stale"), told("age_seconds")) == (2, 0, 0)
