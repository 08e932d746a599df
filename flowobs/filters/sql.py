"""A filter as a ClickHouse WHERE clause. Values are bound, never part of the SQL text."""

from __future__ import annotations

import ipaddress
from typing import Any

from flowobs import schema
from flowobs.filters.tree import And, Filter, Match, Not, Op, Or

_PARAMETER_TYPE: dict[schema.ColumnType, str] = {
    "time": "Int64",
    "u8": "UInt64",
    "u16": "UInt64",
    "u32": "UInt64",
    "u64": "UInt64",
    "ip": "IPv6",
    "string": "String",
}


def where(filter: Filter) -> tuple[str, dict[str, Any]]:
    """The condition and its parameters, named ``f0``, ``f1``, ... in order of appearance."""
    parameters: dict[str, Any] = {}
    return _text(filter, parameters), parameters


def _text(filter: Filter, parameters: dict[str, Any]) -> str:
    match filter:
        case Match():
            return _match(filter, parameters)
        case Not(part):
            return f"NOT ({_text(part, parameters)})"
        case And(parts):
            return " AND ".join(f"({_text(p, parameters)})" for p in parts) or "1"
        case Or(parts):
            return " OR ".join(f"({_text(p, parameters)})" for p in parts) or "0"


def _match(match: Match, parameters: dict[str, Any]) -> str:
    type = schema.BY_NAME[match.field].type
    name, value = f"f{len(parameters)}", match.value
    bound = f"{{{name}:{_PARAMETER_TYPE[type]}}}"
    if match.op is Op.glob:
        parameters[name] = like_pattern(str(value))
        return f"{match.field} LIKE {bound}"
    if isinstance(value, bytes):
        parameters[name] = str(ipaddress.IPv6Address(value))
    else:
        parameters[name] = value
    if type == "time":
        bound = f"fromUnixTimestamp64Nano({bound})"
    return f"{match.field} {match.op.value} {bound}"


def like_pattern(pattern: str) -> str:
    """The LIKE pattern of a glob in which only ``*`` and ``?`` are special."""
    parts = {"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": r"\\"}
    return "".join(parts.get(c, c) for c in pattern)
