from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from relay.metrics import DROP_REASONS, RelayMetrics


def test_every_reason_is_there_before_it_happens():
    registry = CollectorRegistry()
    RelayMetrics(registry, "1.2.3")
    for reason in DROP_REASONS:
        name = "flowobs_relay_records_dropped_total"
        assert registry.get_sample_value(name, {"reason": reason}) == 0
    labels = {"version": "1.2.3", "component": "relay"}
    assert registry.get_sample_value("flowobs_build_info", labels) == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_complain_about():
    registry = CollectorRegistry()
    RelayMetrics(registry, "1.2.3")
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
