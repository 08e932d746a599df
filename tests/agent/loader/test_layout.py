"""Kernel structs: the header, what clang makes of it, and the numpy dtypes are one layout."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from flowobs import assets
from flowobs.agent.btf import Btf
from flowobs.agent.records import COUNT, EVENT, STRUCTS, Struct, header


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Btf]:
    """Types of an object with a variable of each struct: BTF leaves out what is only on stacks."""
    if not shutil.which("clang"):
        pytest.skip("clang is not installed")
    out = tmp_path_factory.mktemp("layout") / "layout.o"
    variables = "".join(f"struct {s.name} a_{s.name};" for s in STRUCTS)
    subprocess.run(
        [
            *("clang", "-g", "-target", "bpf", "-x", "c", "-", "-c", "-o", out),
            *("-I", assets.probe_sources(), f"-I/usr/include/{platform.machine()}-linux-gnu"),
        ],
        input=f'#include "dialect.h"\n#include "records.h"\n{variables}'.encode(),
        check=True,
    )
    with Btf.of_object(out) as btf:
        yield btf


def test_records_h_is_what_records_py_makes() -> None:
    assert (assets.probe_sources() / "records.h").read_text() == header()


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.name)
def test_dtype_is_laid_out_as_the_compiler_did(struct: Struct, compiled: Btf) -> None:
    layout = compiled.layout(struct.name)
    fields = struct.dtype.fields
    assert fields is not None
    assert struct.dtype.itemsize == layout.size
    assert {name: (at, dtype.itemsize) for name, (dtype, at, *_) in fields.items()} == {
        member.name: (member.offset, member.size) for member in layout.members
    }


def test_an_event_fills_a_perf_record_of_128_bytes() -> None:
    perf_header, size_field = 8, 4
    assert perf_header + size_field + EVENT.dtype.itemsize == 128


def test_a_count_is_a_multiple_of_eight_bytes_as_per_cpu_values_are() -> None:
    assert COUNT.dtype.itemsize % 8 == 0
