"""The virtual machine's parts: they are ours, so they have tests of their own."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.vm.archive import Archive
from tests.vm.kernel import Kernel, dependencies


@pytest.mark.skipif(not shutil.which("busybox"), reason="busybox-static is not installed")
def test_another_program_unpacks_our_archive(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "odd").write_bytes(b"12345")
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    out = io.BytesIO()
    archive = Archive(out)
    archive.tree(source, "/a/b", without=frozenset(("left out",)))
    archive.link("/a/link", "b/odd")
    archive.file("/a/b/odd", b"what is there already stays")
    archive.close()

    into = tmp_path / "into"
    into.mkdir()
    subprocess.run(["busybox", "cpio", "-idm"], cwd=into, input=out.getvalue(), check=True)
    assert (into / "a/link").read_bytes() == b"12345"
    assert (into / "a/b/run").stat().st_mode & 0o777 == 0o755
    assert (into / "a/b/odd").stat().st_mtime == int((source / "odd").stat().st_mtime)
    assert sorted(path.name for path in into.rglob("*")) == ["a", "b", "link", "odd", "run"]


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    folder = tmp_path / "lib/modules/1"
    folder.mkdir(parents=True)
    for name, needs in (("bridge", "stp,llc"), ("stp", "llc"), ("llc", ""), ("alone", "")):
        (folder / f"{name}.ko").write_bytes(b"elf\0depends=" + needs.encode() + b"\0more")
    found = Kernel("1", tmp_path).modules("bridge", "built_in")
    assert [path.stem for path in found] == ["llc", "stp", "bridge"]
    assert dependencies(b"no such section") == []
