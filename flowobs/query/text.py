"""A filter tree as a question that parses to the same tree."""

from __future__ import annotations

import re
from typing import Final

from flowobs import schema
from flowobs.filters.tree import And, Filter, Match, Network, Not, Op, Or
from flowobs.rows import ip_text, time_text

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./@%+-][A-Za-z0-9_./@%+=-]*")
_BETWEEN_STARS: Final = re.compile(r"([*?]+)")
_SIGNS: Final = {Op.ge: ">=", Op.gt: ">", Op.le: "<=", Op.lt: "<", Op.contains: "~"}


def text(filter: Filter) -> str:
    """The question. Fields are columns of the schema, values are exact."""
    match filter:
        case Match():
            return _match(filter)
        case Not(part):
            return f"not {_part(part)}"
        case And(parts):
            return " and ".join(map(_part, parts)) or "*"
        case Or(parts):
            return " or ".join(map(_part, parts)) or "not *"


def _part(filter: Filter) -> str:
    if isinstance(filter, And | Or) and len(filter.parts) != 1:
        return f"({text(filter)})" if filter.parts else text(filter)
    return text(filter)


def _match(match: Match) -> str:
    column = schema.BY_NAME[match.field]
    value = match.value
    if isinstance(value, Network):
        mapped = value.bits >= 96 and value.address.startswith(b"\0" * 10 + b"\xff\xff")
        bits = value.bits - 96 if mapped else value.bits
        shown = f"{ip_text(value.address)}/{bits}"
    elif match.op is Op.between and isinstance(value, tuple):
        shown = "..".join(_value(column, v) for v in value)
    elif isinstance(value, tuple):
        shown = ",".join(_value(column, v) for v in value)
    elif match.op is Op.bits and isinstance(value, int):
        shown = "+".join(n for bit, n in enumerate(schema.TCP_FLAGS) if value >> bit & 1)
    elif match.op in (Op.glob, Op.item):
        parts = _BETWEEN_STARS.split(str(value))
        shown = "".join(p if i % 2 else p and quoted(p) for i, p in enumerate(parts)) or '""'
    else:
        shown = _value(column, value)
    return f"{match.field}{_SIGNS.get(match.op, ':')}{shown}"


def _value(column: schema.Column, value: object) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bytes):
        return ip_text(value)
    assert isinstance(value, int)
    if column.type == "time":
        return time_text(value)
    if column.enum is not None:
        return schema.enum_name(column.enum, value)
    return f"{value}{column.unit}" if column.unit in ("ns", "us", "s") else str(value)


def quoted(value: str) -> str:
    """``value`` as a word, in quotes where it needs them; a ``/`` may stand between two names."""
    if not value:
        return '""'
    return "/".join(part and _quoted(part) for part in value.split("/"))


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
