"""Boots the other kernel and brings back what the conformance program found on it."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.vm import conformance, image, kernel
from tests.vm.image import ROOT
from tests.vm.kernel import VmError

CACHE = ROOT / "build" / "vm"
PACKAGES = ("qemu-system-x86", "busybox-static")
TIMEOUT_S = 400


def prepare() -> None:
    """Have what it takes to boot. Raises VmError where that cannot be."""
    if platform.machine() != "x86_64":
        raise VmError(f"the kernel image is for x86-64, this machine is {platform.machine()}")
    if all(map(shutil.which, ("qemu-system-x86_64", "busybox"))):
        return
    done = subprocess.run(
        [ROOT / "scripts" / "packages", *PACKAGES], capture_output=True, text=True
    )
    if done.returncode:
        raise VmError(f"qemu cannot be installed: {done.stderr.strip().splitlines()[-1]}")


def run(loaders: Iterable[str], series: str = kernel.DEFAULT) -> dict[str, Any]:
    """What ``conformance.main`` found on another kernel; raises AssertionError with its console.

    No KVM: it is not everywhere, and broken where virtual machines are nested.
    """
    prepare()
    CACHE.mkdir(parents=True, exist_ok=True)
    found = kernel.fetch(CACHE, series)
    initrd, console, result = (CACHE / n for n in ("initrd.cpio", "console.log", "result"))
    image.build(found, initrd, loaders)
    result.write_bytes(b"")
    started = time.monotonic()
    try:
        subprocess.run(
            [
                *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1536"),
                *("-display", "none", "-nic", "none", "-no-reboot", "-kernel", found.image),
                *("-initrd", initrd, "-append", "console=ttyS0 panic=-1 loglevel=4"),
                *("-serial", f"file:{console}", "-serial", f"file:{result}"),
            ],
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise AssertionError(f"no end after {TIMEOUT_S} s: {_tail(console)}") from None
    finally:
        initrd.unlink()  # as large as the base that is kept
    text = result.read_bytes()
    assert text, _tail(console)
    answer = conformance.unpack(text)
    answer["seconds"] = round(time.monotonic() - started, 1)
    return answer


def _tail(console: Path) -> str:
    return "\n".join(console.read_text(errors="replace").splitlines()[-60:])
