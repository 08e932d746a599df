"""The compiled flow program, loaded once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowobs.agent import loader
from flowobs.agent.features import REQUIRED
from tests.probes.kernel import ENTRIES, Runner

PROBES = Path(__file__).resolve().parents[2] / "probes"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("bpf") and os.geteuid() != 0:
        pytest.skip("loading eBPF needs root")


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    if not shutil.which("clang"):
        pytest.skip("clang is not installed")
    subprocess.run(["make", "-s", "-C", PROBES], check=True)
    with loader.load("core", only=REQUIRED, flow_entries=ENTRIES) as probes:
        yield Runner(probes)
