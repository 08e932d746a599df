"""The kernel's refusals in words: errno, verifier log and libbpf's warnings -> one sentence."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence

# (pattern, words): the first that matches anywhere in log or warnings wins, most specific first.
_KNOWN = (
    (
        r"failed to resolve CO-RE relocation <\S+> \[\d+\] struct (\w+)\.(\S+)",
        r"this kernel's struct \1 has no member \2",
    ),
    (
        r"failed to resolve CO-RE relocation <\S+> \[\d+\] (.+?)(?: \(.*)?$",
        r"this kernel has no \1",
    ),
    (r"failed to find kernel BTF type ID of '(\w+)'", r"this kernel has no \1 to attach to"),
    (r"invalid func unknown#(\d+)", r"this kernel has no BPF helper number \1"),
    (r"unknown func (?:bpf_)?(\w+)#\d+", r"this kernel has no helper bpf_\1 for such programs"),
    (r"cannot use helper (?:bpf_)?(\w+)", r"this kernel has no helper bpf_\1 for such programs"),
    (
        r"BPF program is too (?:large|complex)",
        r"the program is too large for this kernel's verifier",
    ),
)

_ERRNO = {
    errno.EPERM: "not permitted, capabilities or not: lockdown, seccomp or how the kernel is built",
    errno.ENOMEM: "out of memory (kernels before 5.11: raise the locked-memory limit)",
    errno.E2BIG: "the program is too large for this kernel's verifier",
}

# What the verifier adds around its verdict: statistics, its walk through the program, registers.
_NOISE = re.compile(
    r"^(processed \d+ insns|verification time|stack depth|mark_precise|from \d+ to|arg#|func#|"
    r"Func#|Validating|last_idx|regs=|parent |R\d+(_\w+)?=|\d+: |; |--|libbpf:|bpf: |HINT|$)"
)


def explain(number: int, log: str, warnings: Sequence[str] = ()) -> str:
    """Why a program was refused, by errno, the verifier's log and libbpf's warnings."""
    text = "\n".join([log, *warnings])
    for pattern, words in _KNOWN:
        if found := re.search(pattern, text, re.MULTILINE):
            return found.expand(words)
    verdict = [line.strip() for line in log.splitlines() if not _NOISE.match(line.strip())]
    if verdict:
        return f"the kernel's verifier refused it: {verdict[-1]}"
    if number in _ERRNO:
        return _ERRNO[number]
    for line in reversed(warnings):
        if "failed to load" not in line and "BPF program load failed" not in line:
            return line.removeprefix("libbpf: ")
    return f"the kernel refused it: {os.strerror(number)}"
