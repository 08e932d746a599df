"""Whether this process may load probes, asked before the kernel answers with a bare EPERM."""

from __future__ import annotations

from pathlib import Path

# linux/capability.h
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
_SYS_ADMIN = 21


def missing_capabilities() -> list[str]:
    """The capabilities we lack to load and attach. CAP_SYS_ADMIN stands for BPF and PERFMON."""
    held = _effective()
    return [
        name
        for name, bit in _CAPABILITIES.items()
        if not held >> bit & 1 and not (name != "CAP_NET_ADMIN" and held >> _SYS_ADMIN & 1)
    ]


def _effective() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
