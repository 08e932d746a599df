"""The files that the build is made from agree with each other."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-node.lock")


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(), re.M)
    return {canonicalize_name(package): version for package, version in found}


def test_the_lock_has_a_fitting_version_of_every_requirement() -> None:
    """`make lock` writes it anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    texts = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(text for extra in project["project"]["optional-dependencies"].values() for text in extra),
        *project["dependency-groups"]["dev"],
    ]
    locked = pins("requirements.lock")
    for requirement in map(Requirement, texts):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not locked: run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement}: run `make lock`"


@pytest.mark.parametrize("name", LOCKS)
def test_locks_have_hashes_and_name_no_host(name: str) -> None:
    text = (ROOT / name).read_text()

    assert "://" not in text
    assert "--index-url" not in text and "--find-links" not in text
    packages = re.split(r"\n(?=[\w.-]+==)", text)[1:]
    assert packages
    assert all("--hash=sha256:" in package for package in packages)


def test_make_help_lists_what_people_type() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, text=True, capture_output=True, check=True)

    for target in ("demo", "test", "bench", "lock", "clean"):
        assert f"make {target} " in done.stdout


def test_every_source_file_is_short() -> None:
    files = subprocess.run(
        ["git", "ls-files", "*.py", "*.c", "*.h", "*.ts", "*.tsx"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    ).stdout.split()
    lengths = {
        name: len((ROOT / name).read_text().splitlines())
        for name in files
        if (ROOT / name).is_file() and "_pb2" not in name
    }
    assert {name: n for name, n in lengths.items() if n > 600} == {}
