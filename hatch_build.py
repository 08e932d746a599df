"""Puts the compiled probes, their sources and the built web app into the wheel.

An editable install gets nothing: `flowobs.assets` finds these files in the checkout.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg] # hatchling's parameter is its own
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        build_probes(root)
        build_web(root)
        if self.target_name == "wheel":
            build_data["force_include"].update(wheel_files(root))


def build_probes(root: Path) -> None:
    probes = root / "probes"
    sources = sorted(probes.glob("*.bpf.c"))
    objects = [probes / "build" / f"{source.stem}.o" for source in sources]
    if sources and all(path.is_file() for path in objects) and not shutil.which("clang"):
        return  # from an sdist, on a machine without a compiler
    require(
        "clang", "make", what="the probes", packages="clang llvm libbpf-dev linux-libc-dev make"
    )
    run(["make", "--silent", "-C", str(probes)], probes)


def build_web(root: Path) -> None:
    ui = root / "ui"
    if (ui / "dist" / "index.html").is_file():
        return
    require("npm", what="the web app", packages="npm, with Node.js 20.19 or newer")
    run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], ui)
    run(["npm", "run", "--silent", "build"], ui)


def require(*programs: str, what: str, packages: str) -> None:
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise SystemExit(
            f"cannot build {what}: {' and '.join(missing)} not found; "
            f"install {packages}, or run `make build` in the checkout first"
        )


def run(command: list[str], folder: Path) -> None:
    if subprocess.run(command, cwd=folder, check=False).returncode:
        raise SystemExit(
            f"cannot build the wheel: `{' '.join(command)}` failed in {folder}, see above"
        )


def wheel_files(root: Path) -> dict[str, str]:
    """File on disk: its place in the wheel."""
    probes, web = root / "probes", root / "ui" / "dist"
    files = [*probes.rglob("*.c"), *probes.rglob("*.h"), *probes.glob("build/*.bpf.o")]
    placed = {path: Path("flowobs/_probes") / path.relative_to(probes) for path in files}
    placed |= {
        path: Path("flowobs/_web") / path.relative_to(web)
        for path in web.rglob("*")
        if path.is_file()
    }
    return {str(path): str(place) for path, place in sorted(placed.items())}
