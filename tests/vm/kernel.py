"""Debian 12's own kernel, out of its package: nothing is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

META = "linux-image-cloud-amd64"
"""Depends on the newest 6.1 for virtual machines: small, with BTF, kprobes and what we need."""


class VmError(RuntimeError):
    """The virtual machine cannot be had; says why."""


class Kernel(NamedTuple):
    """An unpacked kernel package."""

    release: str
    folder: Path

    @property
    def image(self) -> Path:
        return self.folder / "boot" / f"vmlinuz-{self.release}"

    def modules(self, *names: str) -> list[Path]:
        """Files of modules and of all that they depend on, in the order to load them."""
        files = {path.stem: path for path in (self.folder / "lib/modules").rglob("*.ko")}
        order: dict[str, Path] = {}

        def need(name: str) -> None:
            if name in order or name not in files:  # not a file: built into the kernel
                return
            for other in dependencies(files[name].read_bytes()):
                need(other)
            order[name] = files[name]

        for name in names:
            need(name)
        return list(order.values())


def dependencies(module: bytes) -> list[str]:
    """Names of the modules that a module says it needs."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return (
        [name.replace("-", "_") for name in found[1].decode().split(",") if name] if found else []
    )


def fetch(cache: Path) -> Kernel:
    """The kernel in ``cache``, fetched from Debian where it is not there. Raises VmError."""
    kept = sorted(cache.glob("*/.complete"))
    if kept:
        return Kernel(kept[-1].parent.name, kept[-1].parent)
    try:
        package = _package()
    except VmError:
        _run("apt-get", "update")  # a fresh machine knows no packages
        package = _package()
    release = package.removeprefix("linux-image-")
    folder = cache / release
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _run("apt-get", "download", package, cwd=folder)
    (file,) = folder.glob("*.deb")
    _run("dpkg-deb", "-x", file.name, ".", cwd=folder)
    file.unlink()
    (folder / ".complete").touch()
    return Kernel(release, folder)


def _package() -> str:
    found = re.search(
        r"Depends: (linux-image-6\.1\.\S+-cloud-amd64)", _run("apt-cache", "depends", META)
    )
    if not found:
        raise VmError(f"no package source here has {META} 6.1: it is Debian 12's")
    return found[1]


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise VmError(f"{' '.join(command[:2])}: {last}")
    return done.stdout
