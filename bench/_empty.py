"""The yardstick, a tc program that does nothing: its time is what the kernel's measuring takes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowobs.agent import bpf

_SOURCE = Path(__file__).with_name("empty.bpf.c")


@contextmanager
def loaded() -> Iterator[int]:
    """Its file descriptor. Needs clang."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "empty.bpf.o"
        include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
        compile = ["clang", "-O2", "-g", "-target", "bpf", include, "-c"]
        subprocess.run([*compile, str(_SOURCE), "-o", str(out)], check=True)
        made = bpf.BpfObject(out)
    try:
        made.load()
        program = made.program_fd("empty")
    finally:
        made.close()
    try:
        yield program
    finally:
        os.close(program)
