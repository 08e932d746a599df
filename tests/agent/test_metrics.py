from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import flowobs
from flowobs.agent.metrics import Metrics


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing")
def test_promtool_has_no_complaint() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.received.labels("open").inc()
    metrics.dropped.labels("ring_full").inc()
    metrics.skipped_packets.labels("not_ip").inc()
    metrics.program_loaded.labels("flow_egress", "flows").set(1)
    text = generate_latest(metrics.registry)

    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_names() -> None:
    families = {f.name for f in Metrics(CollectorRegistry()).registry.collect()}
    assert all(n.startswith("flowobs_agent_") for n in families - {"flowobs_build_info"})


def test_build_info() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    labels = {"version": flowobs.__version__}
    assert registry.get_sample_value("flowobs_build_info", labels) == 1
