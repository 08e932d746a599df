"""Loads the prebuilt CO-RE objects. A program that the kernel refuses costs its feature only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from flowobs.agent import bpf
from flowobs.agent.features import Program
from flowobs.agent.loader.reasons import explain
from flowobs.agent.loader.result import Probes

FLOW_MAPS = {
    "flows_0": 1,
    "flows_1": 1,
    "conns": 4,
    "tallies": 1,
    "retransmits_0": 2,
    "retransmits_1": 2,
}
"""The maps that grow with flows, and flows for each entry (probes/maps.h, tallies.h, conns.h)."""


def load(objects: Path, programs: Sequence[Program], flow_entries: int) -> Probes:
    """Load ``programs`` from the object files in ``objects``. Maps of the same name are shared."""
    probes = Probes("core")
    try:
        for name, group in groupby(programs, lambda program: program.object):
            _load_object(probes, objects / name, [p.name for p in group], flow_entries)
    except BaseException:
        probes.close()
        raise
    return probes


def _load_object(probes: Probes, path: Path, names: Sequence[str], flow_entries: int) -> None:
    if not path.is_file():
        probes.missing |= dict.fromkeys(names, f"{path} is not there: build it with make -C probes")
        return
    # All at once is twice as fast; the second try, one by one, finds who is to blame and why.
    if not _try(probes, path, names, flow_entries):
        return
    for name in names:
        if reason := _try(probes, path, [name], flow_entries, log=True):
            probes.missing[name] = reason


def _try(
    probes: Probes, path: Path, names: Sequence[str], flow_entries: int, *, log: bool = False
) -> str:
    """Load these programs, all or none. Returns why not, empty when they are loaded."""
    with bpf.warnings() as warnings:
        try:
            opened = bpf.BpfObject(path)
        except bpf.BpfError as error:
            return error.strerror or str(error)
        with opened as file:
            if absent := set(names) - set(file.programs):
                return f"{path} has no {', '.join(sorted(absent))}: rebuild it with make -C probes"
            file.select(names)
            if log:
                file.keep_log(names[0])
            for name in file.maps:
                if name in probes.maps:
                    file.share(name, probes.maps[name])
                elif name in FLOW_MAPS:
                    file.resize(name, flow_entries // FLOW_MAPS[name])
            try:
                file.load()
            except bpf.BpfError as error:
                return explain(error.errno or 0, file.log, warnings)
            for name in names:
                probes.programs[name] = file.program_fd(name)
            for name in file.maps:
                if name not in probes.maps:
                    probes.maps[name] = file.map_fd(name)
    return ""
