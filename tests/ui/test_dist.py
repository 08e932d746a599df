"""What is shipped: built from these sources, small, and free of other people's hosts."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.ui.browser import BUILD, UI, require_app

BUDGET = 120 * 1024
LOCK = UI / "package-lock.json"


def source_hash() -> str:
    """The same as ui/scripts/source-hash.mjs."""
    files = [UI / "index.html", LOCK, *(p for p in (UI / "src").rglob("*") if p.is_file())]
    total = hashlib.sha256()
    for name in sorted(p.relative_to(UI).as_posix() for p in files):
        total.update(f"{name}\n{hashlib.sha256((UI / name).read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


@pytest.fixture
def dist() -> Path:
    require_app()
    return UI / "dist"


def test_the_build_is_of_these_sources(dist: Path) -> None:
    built = (dist / "source-hash.txt").read_text().strip()
    assert built == source_hash(), f"ui/dist is stale: {BUILD}"


def test_the_app_is_small(dist: Path) -> None:
    sizes = {p.name: len(gzip.compress(p.read_bytes(), 9)) for p in dist.rglob("*") if p.is_file()}
    assert sum(sizes.values()) <= BUDGET, sizes


def test_links_are_relative_and_local(dist: Path) -> None:
    page = (dist / "index.html").read_text()
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    assert all(link.startswith("./assets/") for link in links)
    assert "Content-Security-Policy" in page
    for asset in dist.glob("assets/*"):
        assert not re.search(r"(?:url\(|import\s*['\"])\s*['\"]?https?:", asset.read_text())


def test_names_of_assets_hold_a_hash(dist: Path) -> None:
    for asset in dist.glob("assets/*"):
        assert re.search(r"-[\w-]{8}\.\w+$", asset.name), asset.name


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads(LOCK.read_text())["packages"]
    assert packages
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert not re.search(r"registry|\.tgz", LOCK.read_text())


def test_files_are_short() -> None:
    lines = [len(p.read_text().splitlines()) for p in (UI / "src").rglob("*.ts*")]
    assert max(lines) <= 350
    assert sorted(lines)[len(lines) // 2] <= 150
