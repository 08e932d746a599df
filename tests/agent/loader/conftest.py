"""Compiled probes, and small programs of the tests' own."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flowobs import assets

CHECKOUT = Path(__file__).resolve().parents[3]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("bpf") and os.geteuid() != 0:
        pytest.skip("loading eBPF needs root")


@pytest.fixture(scope="session")
def objects() -> Path:
    """The folder of the project's compiled probes, up to date."""
    if not shutil.which("clang"):
        pytest.skip("clang is not installed")
    subprocess.run(["make", "-s", "-C", CHECKOUT / "probes"], check=True)
    found = assets.probe_objects()
    assert found is not None
    return found


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder for sources of one's own, with the dialect in it."""
    shutil.copy(CHECKOUT / "probes" / "dialect.h", tmp_path)
    return tmp_path


@pytest.fixture
def compile_probe() -> Callable[[Path], None]:
    """Compile ``NAME.bpf.c`` to ``NAME.bpf.o`` beside it, as probes/Makefile does."""
    if not shutil.which("clang"):
        pytest.skip("clang is not installed")
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    options = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", include]

    def compile(source: Path) -> None:
        out = source.with_suffix(".o")
        subprocess.run(["clang", *options, "-c", source, "-o", out], check=True)

    return compile
