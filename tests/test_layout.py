"""Who may import whom, how long a file may be, and what nobody may call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_LINES = 600
GENERATED = ROOT / "flowobs" / "_proto" / "flowobs"


def sources(package: str) -> list[Path]:
    """Python files of a package, generated ones left out."""
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, package
    return [path for path in files if not path.is_relative_to(GENERATED)]


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = path.parent
            for _ in range(node.level - 1):
                folder = folder.parent
            base = ".".join(folder.relative_to(ROOT).parts) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("flowobs", "relay"),
        ("relay", "flowobs.agent"),
        ("relay", "flowobs.cli"),
        ("flowobs", "tests"),
        ("relay", "tests"),
        ("flowobs/filters", "flowobs.agent"),
        ("flowobs/agent", "flowobs.cli"),
    ],
)
def test_imports_go_one_way(package: str, forbidden: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path)
        if f"{name}.".startswith(f"{forbidden}.")
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["flowobs", "relay", "tests", "bench"])
def test_files_hold_one_idea(package: str) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources(package)}
    too_long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > MAX_LINES}
    assert too_long == {}


@pytest.mark.parametrize("package", ["flowobs", "relay", "tests", "bench"])
def test_no_cancellation_is_forgotten(package: str) -> None:
    """asyncio.wait_for of Python 3.11 may swallow one; asyncio.timeout does not."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(package)
        for node in ast.walk(ast.parse(path.read_text(), str(path)))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "asyncio.wait_for"
    ]
    assert wrong == []


def test_the_check_sees_every_kind_of_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "flowobs" / "agent" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import relay.hub\ndef f():\n    from relay import store\nfrom ..cli import tail\n"
        "from . import ring\n"
    )
    assert sorted(imported(path)) == [
        "flowobs.agent.ring",
        "flowobs.cli.tail",
        "relay.hub",
        "relay.store",
    ]
