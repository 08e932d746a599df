"""The virtual machine's root: Python, iproute2, BCC, kernel modules, and this checkout's agent."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from tests.vm.archive import Archive
from tests.vm.kernel import Kernel, VmError

ROOT = Path(__file__).parents[2]

MODULES = (
    *("sch_ingress", "cls_bpf"),  # where there is no TCX
    *("inet_diag", "tcp_diag", "udp_diag"),  # what lists sockets
    *("veth", "bridge", "8021q", "vxlan", "geneve", "ipip", "sit", "ip_gre"),  # links of the tests
    *("nf_conntrack_netlink", "nft_chain_nat", "nft_nat", "nft_masq"),
)
PACKAGES = ("click", "google", "grpc", "msgspec", "numpy", "prometheus_client", "yaml")
"""What the agent imports."""
HEADERS = ("linux", "asm-generic", "asm")
"""The folders of the kernel's interface that BCC compiles against."""
_NOT_NEEDED = frozenset(
    (
        *("test", "tests", "lib2to3", "idlelib", "tkinter", "turtledemo", "ensurepip"),
        *("distutils", "pydoc_data", "site-packages", "dist-packages"),
        *(path.name for path in Path(sysconfig.get_path("stdlib")).glob("config-*")),
    )
)

INIT = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
for module in /modules/*.ko; do insmod "$module" || echo "cannot load $module"; done
ip link set lo up
stty -F /dev/ttyS1 raw
echo "up: kernel $(uname -r), $(cut -d' ' -f1 /proc/uptime) s"
cd /src
{python} -m tests.vm.conformance /dev/ttyS1 {loaders}
echo "done: exit code $?, $(cut -d' ' -f1 /proc/uptime) s"
poweroff -f
"""


def build(kernel: Kernel, out: Path, loaders: Iterable[str]) -> None:
    """Write the initramfs. The part that rarely changes is kept beside it. Raises VmError."""
    base = out.with_name(f"base-{kernel.release}-{_version(kernel)}.cpio")
    if not base.is_file():
        for old in out.parent.glob(f"base-{kernel.release}-*.cpio"):
            old.unlink()
        partial = base.with_suffix(".partial")
        with partial.open("wb") as file:
            _write_base(Archive(file), kernel)
        partial.rename(base)
    with out.open("wb") as file:
        with base.open("rb") as kept:
            shutil.copyfileobj(kept, file, 1 << 20)
        _write_own(Archive(file), loaders)


def _version(kernel: Kernel) -> str:
    """Changes with whatever is in the base."""
    parts = [kernel.release, sys.version, Path(__file__).read_text()]
    parts += [f"{folder} {folder.stat().st_mtime_ns}" for folder in map(_package, PACKAGES)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _write_own(archive: Archive, loaders: Iterable[str]) -> None:
    """What every run packs anew: our code, and what runs it."""
    python = Path(sys.executable).resolve()
    init = INIT.format(python=python, loaders=" ".join(loaders))
    archive.file("/init", init.encode(), executable=True)
    archive.tree(ROOT / "flowobs", "/src/flowobs")
    archive.tree(ROOT / "probes", "/src/probes")
    for folder in ("vm", "e2e"):
        archive.tree(ROOT / "tests" / folder, f"/src/tests/{folder}")
    archive.close()


def _write_base(archive: Archive, kernel: Kernel) -> None:
    busybox = _program("busybox")
    archive.copy(busybox, "/bin/busybox")
    for applet in subprocess.check_output([busybox, "--list"], text=True).split():
        archive.link(f"/bin/{applet}", "busybox")
    for name in ("proc", "sys", "dev", "tmp", "run", "etc"):
        archive.folder(name)
    archive.link("/var/run", "/run")  # where ip looks for its namespaces
    for number, module in enumerate(kernel.modules(*MODULES)):
        archive.copy(module, f"/modules/{number:02}-{module.name}")

    python = Path(sys.executable).resolve()
    archive.copy(python)
    archive.link("/usr/bin/python3", str(python))
    stdlib = Path(sysconfig.get_path("stdlib"))
    archive.tree(stdlib, without=_NOT_NEEDED)
    binaries = [python, *stdlib.glob("lib-dynload/*.so")]
    for name in ("ip", "tc", "nft"):
        archive.copy(_program(name), f"/usr/bin/{name}")
        binaries.append(_program(name))
    for folder in map(_package, PACKAGES):
        archive.tree(folder, f"/src/{folder.name}", without=frozenset(("tests", "include", "f2py")))
        binaries += folder.rglob("*.so")
        for bundled in folder.parent.glob(f"{folder.name}.libs"):
            archive.tree(bundled, f"/src/{bundled.name}")
            binaries += bundled.iterdir()
    archive.copy(_package("click").with_name("typing_extensions.py"), "/src/typing_extensions.py")
    _add_bcc(archive)
    for name in ("libbpf.so.1", "libbcc.so.0"):  # opened by name, so nothing is linked with them
        archive.copy(_library(name), f"/usr/lib/{name}")
        binaries.append(_library(name))
    _add_libraries(archive, binaries)
    archive.close()


def _add_bcc(archive: Archive) -> None:
    """BCC of the system's Python, and the headers it compiles with."""
    bcc = Path("/usr/lib/python3/dist-packages/bcc")
    if not bcc.is_dir():
        raise VmError(f"there is no {bcc}: install python3-bpfcc")
    archive.tree(bcc)
    for name in HEADERS:
        (folder,) = [*Path("/usr/include").glob(name), *Path("/usr/include").glob(f"*-gnu/{name}")]
        archive.tree(folder)


def _add_libraries(archive: Archive, binaries: Iterable[Path]) -> None:
    """The system's libraries that the binaries are linked with, all in one folder."""
    said = subprocess.run(
        ["ldd", *{path.resolve() for path in binaries}], capture_output=True, text=True
    ).stdout
    archive.link("/lib", "/usr/lib")
    archive.link("/lib64", "/usr/lib")
    bundled = {path.resolve() for path in binaries}
    for name in sorted(set(re.findall(r"(?:=>|^)\s+(/\S+) \(0x", said, re.MULTILINE))):
        if Path(name).resolve() not in bundled:
            archive.copy(Path(name), f"/usr/lib/{Path(name).name}")


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise VmError(f"the Python package {name} is not installed")
    return Path(next(iter(found.submodule_search_locations)))


def _program(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise VmError(f"there is no program {name} here")
    return Path(found).resolve()


def _library(name: str) -> Path:
    for folder in (*Path("/usr/lib").glob("*-linux-gnu"), Path("/usr/lib"), Path("/usr/lib64")):
        if (folder / name).exists():
            return folder / name
    raise VmError(f"there is no library {name} here")
