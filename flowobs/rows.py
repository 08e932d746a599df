"""Rows for people: one JSON-ready dict per record.

The same shape from the live hub, the store and the CLI.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from flowobs import schema


def time_text(ns: int) -> str:
    """UTC nanoseconds as RFC 3339 with nine decimals: it sorts as text and loses nothing."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


@lru_cache(maxsize=65536)
def ip_text(address: bytes) -> str:
    """A 16-byte address as text; IPv4-mapped ones as plain IPv4."""
    v6 = ipaddress.IPv6Address(address)
    return str(v6.ipv4_mapped or v6)


def _converter(column: schema.Column) -> Callable[[Any], Any] | None:
    if column.type == "time":
        return time_text
    if column.type == "ip":
        return ip_text
    if column.enum is not None:
        kind = column.enum
        names = {int(m): m.name for m in kind}
        return lambda number: names.get(number, str(number))
    return None


NO_ADDRESS = bytes(16)
_EMPTY: dict[schema.ColumnType, Any] = {"ip": NO_ADDRESS, "string": ""}
_PLAN = [
    (c.name, _converter(c), _EMPTY.get(c.type, 0) if c.optional else None) for c in schema.COLUMNS
]
"""Name, conversion, and the value that is left out (None: none is)."""


def row_dicts(table: Mapping[str, list[Any]], rows: int) -> Iterator[dict[str, Any]]:
    """Rows of a table of Python lists (one list a column, raw numbers, 16-byte addresses, strings).

    Enums become names, addresses and times text. Empty or zero optional fields are left out, so
    that a row shows what is known and nothing else.
    """
    plan = [(*known, table[known[0]]) for known in _PLAN if known[0] in table]
    for i in range(rows):
        row: dict[str, Any] = {}
        for name, convert, empty, values in plan:
            value = values[i]
            if value == empty:
                continue
            row[name] = convert(value) if convert is not None else value
        yield row
