from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from flowobs.agent.loader import stub


def test_a_tree_is_made_once(tmp_path: Path) -> None:
    tree = stub.make(tmp_path)
    made = tree.stat().st_ino
    assert stub.make(tmp_path) == tree
    assert tree.stat().st_ino == made
    assert list(tmp_path.iterdir()) == [tree]


def test_the_tree_shows_the_user_space_headers(tmp_path: Path) -> None:
    tree = stub.make(tmp_path)
    assert (tree / "include/uapi/linux/pkt_cls.h").is_file()
    assert (tree / "include/linux/kconfig.h").read_text().count("__LINUX_BPF_H__") == 2
    arch = {"x86_64": "x86", "aarch64": "arm64"}[platform.machine()]
    assert (tree / f"arch/{arch}/include/uapi/asm/types.h").is_file()


@pytest.mark.parametrize(
    ("release", "code"),
    [
        ("6.18.44-fc-v595", 6 << 16 | 18 << 8 | 44),
        ("5.10.0", 5 << 16 | 10 << 8),
        ("6.1.999-amd64", 6 << 16 | 1 << 8 | 255),
        ("6.6", 6 << 16 | 6 << 8),
        ("6.11.0+rpt-rpi", 6 << 16 | 11 << 8),
        ("6.12-rc3", 6 << 16 | 12 << 8),
    ],
)
def test_version_code(release: str, code: int) -> None:
    assert stub.version_code(release) == code


def test_missing_headers_are_named_with_their_package(tmp_path: Path) -> None:
    with pytest.raises(stub.StubError, match="install linux-libc-dev"):
        stub.links("x86_64", tmp_path)


def test_an_unknown_machine_is_pointed_to_the_other_loader() -> None:
    with pytest.raises(stub.StubError, match=r"not supported on riscv64.*--loader core"):
        stub.files("riscv64", "6.6.0")


def test_the_cache_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert stub.cache_folder() == tmp_path / "flowobs"


def test_a_cache_of_somebody_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "flowobs").mkdir()
    theirs = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: theirs)
    folder = stub.cache_folder()
    assert folder != tmp_path / "flowobs"
    assert folder.stat().st_mode & 0o077 == 0
    folder.rmdir()
