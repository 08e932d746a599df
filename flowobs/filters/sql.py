"""A filter as a ClickHouse WHERE clause. Values are bound, never part of the SQL text."""

from __future__ import annotations

import ipaddress
from typing import Any

from flowobs import schema
from flowobs.filters.glob import LIST_MARK, item_regex
from flowobs.filters.tree import And, Filter, Match, Network, Not, Op, Or

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
    field, value = match.field, match.value

    def bound(value: object) -> str:
        name = f"f{len(parameters)}"
        parameters[name] = str(ipaddress.IPv6Address(value)) if isinstance(value, bytes) else value
        text = f"{{{name}:{_PARAMETER_TYPE[type]}}}"
        return f"fromUnixTimestamp64Nano({text})" if type == "time" else text

    if isinstance(value, Network):
        first, last = map(bound, value.bounds())
        return f"{field} >= {first} AND {field} <= {last}"
    if isinstance(value, tuple):
        if match.op is Op.between:
            return f"{field} >= {bound(value[0])} AND {field} <= {bound(value[1])}"
        return f"{field} IN ({', '.join(map(bound, value))})" if value else "0"
    if match.op is Op.glob:
        return f"{field} LIKE {bound(like_pattern(str(value)))}"
    if match.op is Op.item:
        if LIST_MARK in str(value):
            return "0"
        return f"match({field}, {bound(item_regex(str(value)))})"
    if match.op is Op.contains:
        # ASCII letters only, on both sides and in the mask
        lower = str(value).encode().lower().decode()
        return f"position(lower({field}), {bound(lower)}) > 0"
    if match.op is Op.bits:
        bits = bound(value)
        return f"bitAnd({field}, {bits}) = {bits}"
    return f"{field} {match.op.value} {bound(value)}"


def like_pattern(pattern: str) -> str:
    """The LIKE pattern of a glob in which only ``*`` and ``?`` are special."""
    parts = {"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": r"\\"}
    return "".join(parts.get(c, c) for c in pattern)
