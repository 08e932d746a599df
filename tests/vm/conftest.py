"""Runs the conformance program once on each kernel, and shows their capabilities at the end."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.unseen import unseen
from tests.vm import boot, conformance, table
from tests.vm.found import LOADERS, Run
from tests.vm.image import ROOT
from tests.vm.kernel import DEFAULT, VmError

SERIES = os.environ.get("FLOWOBS_TEST_KERNEL", DEFAULT)
"""The virtual machine's kernel: one of ``kernel.RELEASES``."""

_found: dict[str, dict[str, Any]] = {}
_failed: dict[str, str] = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("network namespaces and eBPF need root")


@functools.cache
def unavailable() -> str:
    """Why there is no second kernel here; empty where there is."""
    try:
        boot.prepare()
    except VmError as error:
        return str(error)
    return ""


def _here() -> dict[str, Any]:
    """In a process of its own, as in the virtual machine."""
    boot.CACHE.mkdir(parents=True, exist_ok=True)
    out = boot.CACHE / "here"
    command = [sys.executable, "-m", "tests.vm.conformance", str(out), *LOADERS]
    kept = unseen()
    for _ in range(3):
        if kept:
            kept.clear()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, done.stderr
        if not (kept and kept.count()):
            break
    return conformance.unpack(out.read_bytes())


def found_on(kernel: str) -> dict[str, Any]:
    """What the agent told on a kernel; asked once for all tests, in vain or not."""
    if kernel == "vm" and (reason := unavailable()):
        pytest.skip(reason)
    if kernel in _failed:
        pytest.fail(f"as in the first test: {_failed[kernel]}")
    if kernel not in _found:
        try:
            in_vm = kernel == "vm"
            _found[kernel] = boot.run((*LOADERS, "hotplug"), SERIES) if in_vm else _here()
        except BaseException as error:
            _failed[kernel] = str(error)
            raise
    return _found[kernel]


@pytest.fixture(
    params=[
        pytest.param((kernel, loader), id=f"{kernel}-{loader}", marks=marks)
        for kernel, mark in (("here", pytest.mark.bpf), ("vm", pytest.mark.vm))
        for loader, marks in (("core", [mark]), ("bcc", [mark, pytest.mark.bcc]))
    ]
)
def run(request: pytest.FixtureRequest) -> Run:
    """The findings on one kernel with one loader."""
    kernel, loader = request.param
    return Run(found_on(kernel), loader)


@pytest.fixture(params=[pytest.param("here"), pytest.param("vm", marks=pytest.mark.vm)])
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Everything found on one kernel."""
    return found_on(request.param)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for kernel, each in _found.items():
        took = f", {each['seconds']} s in a virtual machine" if kernel == "vm" else ""
        terminalreporter.section(f"kernel {each['kernel']}{took}")
        terminalreporter.write(table.capabilities([each]))
