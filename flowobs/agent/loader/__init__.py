"""Gets the probes into the kernel: prebuilt (core) or compiled on the node (BCC).

Both hand over file descriptors; nothing behind knows which it was.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from flowobs import assets
from flowobs.agent import bpf, btf
from flowobs.agent.features import PROGRAMS, Program
from flowobs.agent.loader import bcc, core
from flowobs.agent.loader.privileges import missing_capabilities
from flowobs.agent.loader.result import LoaderName, LoadError, Probes

Choice = Literal["auto", "core", "bcc"]

__all__ = ["Choice", "LoadError", "LoaderName", "Probes", "check_rights", "load"]


def check_rights() -> None:
    """Raises LoadError where this process may not load probes."""
    if absent := missing_capabilities():
        raise LoadError(
            f"loading probes needs root, or the capabilities {', '.join(absent)}: run it with sudo"
        )


def load(
    choice: Choice = "auto", *, flow_entries: int = 65536, only: Collection[str] | None = None
) -> Probes:
    """Load the programs of ``features.PROGRAMS``, or ``only`` those named.

    ``flow_entries``: room in each flow map. ``auto`` takes core where the kernel has BTF, the
    objects are built and the required programs load, else BCC. What is refused is in
    ``Probes.missing`` with the reason. Raises LoadError when a required program is refused, or
    when nothing can be loaded at all.
    """
    check_rights()
    try:
        bpf.require()
    except bpf.BpfError as error:
        raise LoadError(str(error.strerror)) from error
    programs = [p for p in PROGRAMS if only is None or p.name in only]
    if choice == "bcc":
        return _complete(_bcc(programs, flow_entries), programs)
    try:
        return _complete(_core(programs, flow_entries), programs)
    except LoadError as refused:
        if choice == "core":
            raise
        try:
            return _complete(_bcc(programs, flow_entries), programs)
        except LoadError as error:
            raise LoadError(f"{refused}; and with BCC: {error}") from error


def _core(programs: list[Program], flow_entries: int) -> Probes:
    if not btf.KERNEL.is_file():
        raise LoadError(f"this kernel has no BTF ({btf.KERNEL}): use --loader bcc")
    objects = assets.probe_objects()
    if objects is None:
        raise LoadError("the prebuilt probes are missing: make -C probes, or use --loader bcc")
    return core.load(objects, programs, flow_entries)


def _bcc(programs: list[Program], flow_entries: int) -> Probes:
    return bcc.load(_sources(), programs, flow_entries)


def _sources() -> Path:
    try:
        return assets.probe_sources()
    except assets.AssetError as error:
        raise LoadError(str(error)) from error


def _complete(probes: Probes, programs: list[Program]) -> Probes:
    refused = [p.name for p in programs if p.required and p.name not in probes.programs]
    if not refused:
        return probes
    probes.close()
    raise LoadError(
        f"{' and '.join(refused)} cannot be loaded with --loader {probes.loader}:"
        f" {probes.missing[refused[0]]}"
    )
