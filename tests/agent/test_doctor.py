from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flowobs.agent import bpf, doctor
from flowobs.agent.bpf import BpfError
from flowobs.agent.features import FEATURES, PROGRAMS
from flowobs.agent.loader import LoadError
from flowobs.cli.doctor import doctor as command
from flowobs.identity.cgroup_paths import find_mount
from tests.agent.netlab import wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="loading eBPF needs root")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, arguments)
    return result.exit_code, result.output


@pytest.mark.root
@pytest.mark.bpf
@needs_root
@pytest.mark.parametrize("loader", ["core", pytest.param("bcc", marks=pytest.mark.bcc)])
def test_json_tells_about_every_program(loader: str) -> None:
    code, output = run("--json", "--loader", loader)
    found: dict[str, Any] = json.loads(output)
    assert code == 0
    assert found["ok"] is True
    assert (found["loader"], found["error"]) == (loader, None)
    assert found["tc"] in ("tcx", "clsact")
    assert set(found["features"]) == set(FEATURES)
    assert [p["name"] for p in found["programs"]] == [p.name for p in PROGRAMS]
    assert [p["name"] for p in found["programs"] if not p["needed"]] == [
        p.name for p in PROGRAMS if p.instead_of
    ]
    for program in found["programs"]:
        if not program["needed"]:
            continue
        missing = program["name"] == "socket_owners" and loader == "bcc"
        assert program["loaded"] is not missing
        assert program["attached"] is (None if missing else True)
        assert (program["reason"] is None) is not missing


@pytest.mark.root
@pytest.mark.bpf
@needs_root
def test_nothing_is_left_behind() -> None:
    def state() -> list[str]:
        own = [*Path("/proc/self/fd").iterdir(), *Path("/proc/self/task").iterdir()]
        mount = find_mount()[0]  # other programs make cgroups, too
        return list(map(str, [*own, *(mount.glob("flowobs-doctor-*") if mount else ())]))

    doctor.examine("core")
    before = set(state())
    doctor.examine("core")
    wait_until(lambda: set(state()) <= before)  # a thread is still listed when it has ended


@pytest.mark.root
@pytest.mark.bpf
@needs_root
def test_a_refused_hook_costs_only_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, name: str) -> int:
        raise BpfError(2, f"cannot attach to tracepoint {name}: No such file or directory")

    monkeypatch.setattr(bpf, "attach_raw_tracepoint", refuse)
    code, output = run("--loader", "core")
    assert code == 0
    said = "skb_drop, skb_drop_plain: cannot attach to tracepoint kfree_skb: No such file"
    assert said in output
    assert "lost without it: fail records" in output
    assert "can run here, without" in output


@pytest.mark.root
@pytest.mark.bpf
@needs_root
def test_old_kernels_get_a_tc_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, ifindex: int, egress: bool) -> int:
        raise BpfError(22, "cannot attach to interface 1 by TCX: Invalid argument")

    monkeypatch.setattr(bpf, "attach_tcx", refuse)
    report = doctor.examine("core")
    assert report.tc == "clsact"
    assert report.ok


@pytest.mark.root
def test_somebody_without_rights_gets_one_sentence_and_exit_code_1() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give rights away")
    script = "from flowobs.cli.doctor import doctor; doctor()"
    # still root, so that the checkout can be read wherever it is, but without any capability
    nobody = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable]
    plain = subprocess.run([*nobody, "-c", script], capture_output=True, text=True)
    assert plain.returncode == 1
    assert plain.stderr == ""
    assert "flowobs cannot run here: loading probes needs root" in plain.stdout
    as_json = subprocess.run([*nobody, "-c", script, "--json"], capture_output=True, text=True)
    assert as_json.returncode == 1
    found = json.loads(as_json.stdout)
    assert found["ok"] is False
    assert "run it with sudo" in found["error"]
    assert not any(p["loaded"] for p in found["programs"])


def test_no_loader_at_all_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(choice: str) -> None:
        raise LoadError("flow_ingress cannot be loaded: because")

    monkeypatch.setattr(doctor, "load", fail)
    code, output = run()
    assert code == 1
    assert output.endswith("flowobs cannot run here: flow_ingress cannot be loaded: because\n")


@pytest.mark.root
@pytest.mark.bpf
@needs_root
def test_adapters_are_needed_where_cgroups_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_mount", lambda: (None, True))
    code, output = run("--loader", "core")
    assert code == 0
    lines = {line.split()[1]: line for line in output.splitlines() if line.startswith("processes")}
    assert lines["owner_state"].endswith("works")
    assert lines["owner_connect4"].endswith("not attached")
    assert "owner_connect4, " in output and "no cgroup v2 is mounted here: mount one" in output
    # one reason, one remark
    assert output.count("no cgroup v2 is mounted") == 1
    assert "sockets that connect (owner_state stands in)" in output


@pytest.mark.root
@pytest.mark.bpf
@needs_root
def test_kprobes_are_not_needed_where_anything_better_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even where what is between, typed tracing, is refused."""

    def refuse(fd: int) -> int:
        raise BpfError(1, "cannot attach to its hook: Operation not permitted")

    kprobes = {p.name for p in PROGRAMS if p.kind in ("kprobe", "kretprobe")}
    monkeypatch.setattr(bpf, "attach_traced", refuse)
    needed = {p.name for p in doctor.examine("core").programs if p.needed}
    assert not needed & kprobes
    monkeypatch.setattr(doctor, "find_mount", lambda: (None, True))
    needed = {p.name for p in doctor.examine("core").programs if p.needed}
    assert needed >= kprobes
