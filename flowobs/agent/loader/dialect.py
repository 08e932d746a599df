"""The probes' sources as one text that BCC accepts (probes/dialect.h says why)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

# BCC refuses map calls inside macros, so these become method calls before it sees them.
_RULES = (
    (r"\bMAP_GET\((\w+),\s*", r"\1.lookup("),
    (r"\bMAP_PUT\((\w+),\s*", r"\1.update("),
    (r"\bMAP_NEW\((\w+),\s*", r"\1.insert("),
    (r"\bMAP_DEL\((\w+),\s*", r"\1.delete("),
    (r"\bSOCKET_GET\((\w+),\s*(\w+)\)", r"\1.sk_storage_get(\2, 0, 0)"),
    (r"\bSOCKET_NEW\((\w+),\s*(\w+),\s*([&\w]+)\)", r"\1.sk_storage_get(\2, \3, 1)"),
    (r"\bPERF_OUT\((\w+),\s*", r"\1.perf_submit("),
)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)".*$', re.MULTILINE)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define\b(?:.*\\\n)*.*$", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_PRAGMA_ONCE = re.compile(r"^[ \t]*#[ \t]*pragma[ \t]+once.*\n", re.MULTILINE)
# KREAD(dst, ptr, struct, member), KADDR(ptr, struct, member): only the last two matter.
_KERNEL_MEMBER = re.compile(r"\bK(?:READ|ADDR)\([^;]*?,\s*(\w+)\s*,\s*(\w+)\s*\)")


class KernelMember(NamedTuple):
    """A member of a kernel struct whose offset the compiler must be told."""

    struct: str
    member: str

    @property
    def macro(self) -> str:
        return f"OFF_{self.struct}_{self.member}"


def rewrite(text: str) -> str:
    """Turn map macros into BCC's method calls, everywhere but in ``#define`` lines."""
    parts, position = [], 0
    for define in _DEFINE.finditer(text):
        parts += [_apply(text[position : define.start()]), define.group()]
        position = define.end()
    return "".join([*parts, _apply(text[position:])])


def _apply(text: str) -> str:
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    return text


def flatten(folder: Path, names: Iterable[str]) -> str:
    """The files one after the other with our own headers in them, each once."""
    seen: set[str] = set()

    def one(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        text = _PRAGMA_ONCE.sub("", (folder / name).read_text())
        return _INCLUDE.sub(lambda found: one(found[1]), text)

    return "\n".join(one(name) for name in names)


def bcc_source(folder: Path, names: Sequence[str]) -> str:
    """The text to hand to BCC for these source files."""
    return rewrite(flatten(folder, names))


def kernel_members(folder: Path, name: str) -> list[KernelMember]:
    """The kernel struct members that a source file and its headers read, sorted."""
    text = _COMMENT.sub("", _DEFINE.sub("", flatten(folder, [name])))
    return sorted({KernelMember(*found) for found in _KERNEL_MEMBER.findall(text)})
