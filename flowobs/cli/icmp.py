"""Names of ICMP types (IANA), for people."""

from __future__ import annotations

from typing import Any

from flowobs.cli.text import number

NAMES: dict[str, dict[int, str]] = {
    "icmp": {
        0: "echo-reply",
        3: "unreachable",
        5: "redirect",
        8: "echo-request",
        11: "time-exceeded",
        12: "parameter-problem",
    },
    "icmpv6": {
        1: "unreachable",
        2: "packet-too-big",
        3: "time-exceeded",
        4: "parameter-problem",
        128: "echo-request",
        129: "echo-reply",
        130: "mld-query",
        131: "mld-report",
        132: "mld-done",
        133: "router-solicitation",
        134: "router-advertisement",
        135: "neighbor-solicitation",
        136: "neighbor-advertisement",
        137: "redirect",
        143: "mld2-report",
    },
}


def icmp_name(row: dict[str, Any]) -> str:
    """The type of an ICMP record (``type 42 code 1`` without a name); "" for other protocols."""
    names = NAMES.get(str(row.get("proto")))
    if names is None:
        return ""
    kind, code = number(row, "icmp_type"), number(row, "icmp_code")
    return names.get(kind) or f"type {kind} code {code}"
