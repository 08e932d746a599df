"""The yardsticks: what a tc program costs at least, see yardstick.bpf.c."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowobs.agent import bpf

_SOURCE = Path(__file__).with_name("yardstick.bpf.c")


@contextmanager
def loaded(name: str = "empty") -> Iterator[int]:
    """A program's file descriptor: ``empty`` does nothing, ``line`` counts. Needs clang."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "yardstick.bpf.o"
        include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
        compile = ["clang", "-O2", "-g", "-target", "bpf", include, "-c"]
        subprocess.run([*compile, str(_SOURCE), "-o", str(out)], check=True)
        made = bpf.BpfObject(out)
    try:
        made.select([name])
        made.load()
        program = made.program_fd(name)
    finally:
        made.close()
    try:
        yield program
    finally:
        os.close(program)
