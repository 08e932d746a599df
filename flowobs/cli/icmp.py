"""Names of ICMP types and codes (IANA), for people."""

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

ERRORS: dict[str, dict[tuple[int, int], str]] = {
    "icmp": {
        (3, 0): "network unreachable",
        (3, 1): "host unreachable",
        (3, 2): "protocol unreachable",
        (3, 3): "port unreachable",
        (3, 4): "fragmentation needed",
        (3, 5): "source route failed",
        (3, 6): "network unknown",
        (3, 7): "host unknown",
        (3, 9): "network prohibited",
        (3, 10): "host prohibited",
        (3, 11): "network unreachable for its service",
        (3, 12): "host unreachable for its service",
        (3, 13): "prohibited by filter",
        (11, 0): "TTL exceeded",
        (11, 1): "reassembly time exceeded",
    },
    "icmpv6": {
        (1, 0): "no route",
        (1, 1): "prohibited by filter",
        (1, 2): "beyond scope of source",
        (1, 3): "address unreachable",
        (1, 4): "port unreachable",
        (1, 5): "source address refused",
        (1, 6): "route rejected",
        (2, 0): "packet too big",
        (3, 0): "hop limit exceeded",
        (3, 1): "reassembly time exceeded",
        (4, 1): "unknown next header",
        (4, 2): "unknown option",
    },
}
"""Errors by type and code."""


def icmp_error(row: dict[str, Any]) -> str:
    """What the error of a record of kind icmp_error says; its type's name for a code without."""
    protocol = "icmpv6" if ":" in str(row.get("src_ip")) else "icmp"
    kind, code = number(row, "icmp_type"), number(row, "icmp_code")
    known = NAMES[protocol].get(kind)
    return ERRORS[protocol].get((kind, code)) or (
        f"{known.replace('-', ' ')}, code {code}" if known else f"type {kind} code {code}"
    )


def icmp_name(row: dict[str, Any]) -> str:
    """The type of an ICMP record (``type 42 code 1`` without a name); "" for other protocols."""
    names = NAMES.get(str(row.get("proto")))
    if names is None:
        return ""
    kind, code = number(row, "icmp_type"), number(row, "icmp_code")
    return names.get(kind) or f"type {kind} code {code}"
