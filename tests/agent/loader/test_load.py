"""Both loaders bring every program and map into this kernel, and what they bring works."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flowobs import assets
from flowobs.agent import bpf, loader
from flowobs.agent.features import PROGRAMS, REQUIRED
from flowobs.agent.loader import LoadError, Probes
from flowobs.agent.records import (
    CONN,
    CONTROL,
    COUNT,
    EVENT,
    FLOW,
    FLOW_KEY,
    OWNER,
    RETRANSMITS,
    TALLY,
)
from flowobs.agent.tallies import Tallies

pytestmark = [pytest.mark.root, pytest.mark.bpf]

MAPS = {
    "flows_0": (FLOW_KEY.dtype.itemsize, FLOW.dtype.itemsize, 1000),
    "flows_1": (FLOW_KEY.dtype.itemsize, FLOW.dtype.itemsize, 1000),
    "conns": (4, 16 * (8 + CONN.dtype.itemsize), 250),
    "tallies": (4, 2 * TALLY.dtype.itemsize, 1000),
    "retransmits_0": (FLOW_KEY.dtype.itemsize, RETRANSMITS.dtype.itemsize, 500),
    "control": (4, CONTROL.dtype.itemsize, 1),
    "overflow": (4, COUNT.dtype.itemsize, 512),
    "owners": (8, OWNER.dtype.itemsize, 65536),
}


@pytest.fixture(params=["core", pytest.param("bcc", marks=pytest.mark.bcc)], scope="module")
def probes(request: pytest.FixtureRequest, objects: Path) -> Iterator[Probes]:
    with loader.load(request.param, flow_entries=1000) as loaded:
        assert loaded.loader == request.param
        yield loaded


def test_everything_loads(probes: Probes) -> None:
    expected = {p.name for p in PROGRAMS if probes.loader == "core" or not p.core_only}
    # some kernels are built without a way to attach to functions
    expected -= {p.name for p in PROGRAMS if p.kind == "fentry" and p.name in probes.missing}
    assert set(probes.programs) == expected
    assert set(probes.missing) == {p.name for p in PROGRAMS} - expected


@pytest.mark.parametrize("name", MAPS)
def test_maps_have_the_sizes_that_user_space_expects(probes: Probes, name: str) -> None:
    info = bpf.map_info(probes.maps[name])
    assert (info.key_size, info.value_size, info.max_entries) == MAPS[name]


def test_file_descriptors_are_not_inherited(probes: Probes) -> None:
    for fd in [*probes.programs.values(), *probes.maps.values()]:
        assert not os.get_inheritable(fd)


def test_the_flow_program_counts_into_the_shared_map(probes: Probes) -> None:
    run = bpf.test_run(probes.programs["flow_ingress"], tcp_packet(), repeat=7)
    assert run.value == -1  # TC_ACT_UNSPEC: we never decide about a packet
    keys, flows = np.empty(1000, FLOW_KEY.dtype), np.empty(1000, FLOW.dtype)
    assert bpf.drain(probes.maps["flows_0"], keys, flows) == 1
    Tallies(probes.maps["tallies"]).add_to(flows[:1])
    assert flows[0]["packets"].sum() == 7
    assert {int(keys[0]["port_a"]), int(keys[0]["port_b"])} == {1234, 443}
    assert bpf.drain(probes.maps["flows_0"], keys, flows) == 0


def test_auto_takes_the_prebuilt_probes(objects: Path) -> None:
    with loader.load(only=REQUIRED) as probes:
        assert probes.loader == "core"
        assert set(probes.programs) == REQUIRED


@pytest.mark.bcc
def test_auto_compiles_where_nothing_is_prebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "probe_objects", lambda: None)
    with loader.load(only=REQUIRED) as probes:
        assert probes.loader == "bcc"
    with pytest.raises(LoadError, match="make -C probes"):
        loader.load("core")


def test_no_kernel_types_means_no_core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("flowobs.agent.btf.KERNEL", tmp_path / "vmlinux")
    with pytest.raises(LoadError, match=r"no BTF.*use --loader bcc"):
        loader.load("core")


def test_close_releases_every_fd(objects: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    probes = loader.load("core")
    probes.close()
    probes.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_missing_capabilities_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "missing_capabilities", lambda: ["CAP_BPF"])
    with pytest.raises(LoadError, match=r"needs root.*CAP_BPF.*sudo"):
        loader.load()


def test_a_refused_required_program_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(assets, "probe_objects", lambda: tmp_path)
    with pytest.raises(LoadError, match=r"flow_ingress and flow_egress cannot .* core: .*make -C"):
        loader.load("core")


def test_an_event_goes_to_the_ring_map(probes: Probes) -> None:
    assert bpf.map_info(probes.maps["events"]).type == 4  # BPF_MAP_TYPE_PERF_EVENT_ARRAY
    assert EVENT.dtype.itemsize % 8 == 4


def tcp_packet() -> bytes:
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, bytes(4), bytes([10, 0, 0, 1]))
    return bytes(12) + b"\x08\x00" + ip + struct.pack("!HHIIBBHHH", 1234, 443, 0, 0, 80, 2, 0, 0, 0)
