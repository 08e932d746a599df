"""Kernels of Debian's releases, out of their packages: nothing is installed."""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

META = "linux-image-cloud-amd64"
"""Depends on a release's newest for virtual machines: small, with BTF, kprobes and what we need."""
DEFAULT = "6.1"
RELEASES = {"5.10": "bullseye", DEFAULT: "bookworm", "6.12": "trixie"}
"""Series of kernel -> Debian's release that has it."""
_MIRROR = "http://deb.debian.org/debian"
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


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
        files = {path.stem: path for path in self.folder.rglob("*.ko")}
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


def fetch(cache: Path, series: str = DEFAULT) -> Kernel:
    """The kernel in ``cache``, fetched from Debian where it is not there. Raises VmError."""
    kept = sorted(cache.glob(f"{series}.*/.complete"))
    if kept:
        return Kernel(kept[-1].parent.name, kept[-1].parent)
    if series not in RELEASES:
        raise VmError(f"no Debian release has Linux {series}: take one of {', '.join(RELEASES)}")
    apt = _sources(cache / "apt", RELEASES[series])
    _run("apt-get", *apt, "update")
    found = re.search(
        rf"Depends: (linux-image-{re.escape(series)}\.\S+-cloud-amd64)",
        _run("apt-cache", *apt, "depends", META),
    )
    if not found:
        raise VmError(f"Debian's {RELEASES[series]} has no {META} {series}")
    release = found[1].removeprefix("linux-image-")
    folder = cache / release
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _run("apt-get", *apt, "download", found[1], cwd=folder)
    (file,) = folder.glob("*.deb")
    _run("dpkg-deb", "-x", file.name, ".", cwd=folder)
    file.unlink()
    for packed in list(folder.rglob("*.ko.xz")):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    (folder / ".complete").touch()
    return Kernel(release, folder)


def _sources(folder: Path, release: str) -> list[str]:
    """apt's options to see one release, whatever the machine's own sources are."""
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    sources = folder / f"{release}.list"
    sources.write_text(f"deb [signed-by={_KEYS}] {_MIRROR} {release} main\n")
    options = {
        "Dir::Etc::sourcelist": sources.absolute(),
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": (folder / "lists").absolute(),
        "Dir::Cache": folder.absolute(),
    }
    return [f"-o{name}={value}" for name, value in options.items()]


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise VmError(f"{command[0]} {command[-1]}: {last}")
    return done.stdout
