"""A "kernel source tree" of five small files and three symlinks: all the kernel headers BCC needs.

The tree is made once per content in a cache folder. It shows BCC the UAPI headers of linux-libc-dev
in the places where a kernel tree has them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

_KCONFIG = """\
/* BCC brings a bpf.h with the guard _UAPI__LINUX_BPF_H__. The installed one must stay out: its
 * guard lost the _UAPI, so every enum would come twice. */
#define __LINUX_BPF_H__ 1
#define CONFIG_BPF_SYSCALL 1
#define CONFIG_HAVE_EBPF_JIT 1
"""

_TYPES = """\
#pragma once
#include <uapi/linux/types.h>
typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64;
typedef __s8 s8; typedef __s16 s16; typedef __s32 s32; typedef __s64 s64;
typedef __u8 uint8_t; typedef __u16 uint16_t; typedef __u32 uint32_t; typedef __u64 uint64_t;
typedef __s8 int8_t; typedef __s16 int16_t; typedef __s32 int32_t; typedef __s64 int64_t;
typedef _Bool bool; enum { false, true };
typedef __SIZE_TYPE__ size_t; typedef long ssize_t; typedef unsigned long uintptr_t;
typedef int pid_t; typedef unsigned uid_t, gid_t; typedef long long loff_t;
#ifndef NULL
#define NULL ((void *)0)
#endif
"""

_VERSION = """\
#define LINUX_VERSION_CODE %d
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
"""

# machine: its folder under arch/
_ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm64"}


class StubError(RuntimeError):
    """The tree cannot be made here; says what is missing."""


def version_code(release: str) -> int:
    """LINUX_VERSION_CODE of a release such as ``6.18.44-fc``."""
    numbers = [int(part) for part in release.split("-")[0].split("+")[0].split(".")[:3]]
    major, minor, patch = (*numbers, 0, 0)[:3]
    return major << 16 | minor << 8 | min(patch, 255)


def architecture() -> str:
    """The kernel's name of this machine: its folder under arch/."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def files(machine: str, release: str) -> dict[str, str]:
    """Path in the tree -> text. StubError for a machine that nobody has tried BCC on."""
    if machine not in _ARCHITECTURES:
        raise StubError(
            f"BCC is not supported on {machine}: use the prebuilt probes, --loader core"
        )
    return {
        "include/linux/kconfig.h": _KCONFIG,
        "include/linux/types.h": _TYPES,
        "include/linux/version.h": _VERSION % version_code(release),
        "include/linux/log2.h": "",
        f"arch/{_ARCHITECTURES[machine]}/include/asm/page.h": "",
    }


def links(machine: str, include: Path = Path("/usr/include")) -> dict[str, Path]:
    """Path in the tree -> the folder of UAPI headers it shows. StubError when there are none."""
    asm = include / f"{machine}-linux-gnu" / "asm"
    if not asm.is_dir():
        asm = include / "asm"
    if not (include / "linux" / "bpf.h").is_file() or not asm.is_dir():
        raise StubError(
            f"BCC needs the kernel's user-space headers, but {include}/linux/bpf.h is not there:"
            " install linux-libc-dev (Debian, Ubuntu) or kernel-headers (Fedora)"
        )
    return {
        "include/uapi/linux": include / "linux",
        "include/uapi/asm-generic": include / "asm-generic",
        f"arch/{_ARCHITECTURES[machine]}/include/uapi/asm": asm,
    }


def make(cache: Path | None = None) -> Path:
    """The tree for this machine and kernel: the one in the cache, or a new one."""
    machine, release = platform.machine(), platform.release()
    texts = files(machine, release)
    targets = links(machine)
    content = repr((sorted(texts.items()), sorted(targets.items())))
    name = f"bcc-stub-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    tree = (cache or cache_folder()) / name
    if tree.is_dir():
        return tree
    # Written beside and renamed: a tree under its name is complete, whoever else makes one now.
    draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=tree.parent))
    for path, text in texts.items():
        (draft / path).parent.mkdir(parents=True, exist_ok=True)
        (draft / path).write_text(text)
    for path, target in targets.items():
        (draft / path).parent.mkdir(parents=True, exist_ok=True)
        (draft / path).symlink_to(target)
    try:
        draft.rename(tree)
    except OSError:
        shutil.rmtree(draft)
        if not tree.is_dir():
            raise
    return tree


def cache_folder() -> Path:
    """``flowobs`` in ``$XDG_CACHE_HOME``, ``/var/cache`` or ``~/.cache``, else a temporary folder.

    Never a guessable name where others may write: what is in there is compiled into the kernel.
    """
    candidates = [Path("/var/cache")] if os.geteuid() == 0 else []
    if configured := os.environ.get("XDG_CACHE_HOME"):
        candidates.insert(0, Path(configured))
    elif os.geteuid() != 0:
        candidates.append(Path("~/.cache").expanduser())
    for candidate in candidates:
        folder = candidate / "flowobs"
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if folder.stat().st_uid == os.geteuid() and os.access(folder, os.W_OK):
                return folder
    return Path(tempfile.mkdtemp(prefix="flowobs-"))
