"""SQL of the store's tables, derived from the schema.

Enums are stored as plain UInt8 and named where they are shown: a number that this version has no
name for (a newer agent) survives the round trip, and a new name needs no change of the table.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from flowobs import schema

TABLE = "flows"

NAMES = [c.name for c in schema.COLUMNS]
"""Columns of the table, in order."""

COLUMN_LIST = ", ".join(f"`{name}`" for name in NAMES)

DEDUPLICATION_WINDOW = 10_000
"""Latest inserts a table remembers by token: more than agents can hold un-acknowledged."""

_TYPES: dict[schema.ColumnType, str] = {
    # With a zone of its own, days (partitions) do not depend on the machine's.
    "time": "DateTime64(9, 'UTC')",
    "u8": "UInt8",
    "u16": "UInt16",
    "u32": "UInt32",
    "u64": "UInt64",
    "ip": "IPv6",
    "string": "LowCardinality(String)",
}
_CODECS: dict[schema.ColumnType, str] = {
    "time": "Delta(8), ZSTD(1)",
    "u32": "T64, ZSTD(1)",
    "u64": "T64, ZSTD(1)",
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MARK = re.compile(r"^flowobs schema (\d+)$")


def store_type(column: schema.Column) -> str:
    """The ClickHouse type of a column."""
    return _TYPES[column.type]


def create_table(retention_s: int, window: int = DEDUPLICATION_WINDOW) -> str:
    """CREATE TABLE of the flows table; rows go, a day's part at a time, after ``retention_s``."""
    columns = ",\n  ".join(map(_definition, schema.COLUMNS))
    return (
        f"CREATE TABLE IF NOT EXISTS {TABLE} (\n  {columns}\n)\nENGINE = MergeTree\n"
        f"PARTITION BY toDate(time)\nORDER BY time\nTTL {ttl(retention_s)}\n"
        f"SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = {window}\n"
        f"COMMENT '{mark()}'"
    )


def migrate_table(there: Collection[str]) -> list[str]:
    """Statements that bring an older table with the columns ``there`` up to this version.

    Old rows have zero and empty text in the new columns. No column was ever renamed or retyped.
    """
    adds = [
        f"ADD COLUMN IF NOT EXISTS {_definition(c)}" for c in schema.COLUMNS if c.name not in there
    ]
    alter = f"ALTER TABLE {TABLE} "
    return [alter + ", ".join(adds)] * bool(adds) + [f"{alter}MODIFY COMMENT '{mark()}'"]


def _definition(column: schema.Column) -> str:
    codec = _CODECS.get(column.type, "ZSTD(1)")
    return f"`{column.name}` {store_type(column)} CODEC({codec})"


def ttl(retention_s: int) -> str:
    """The table's TTL expression."""
    return f"toDateTime(time) + toIntervalSecond({retention_s})"


def mark() -> str:
    """The table's comment: says whose it is and of which schema version."""
    return f"flowobs schema {schema.SCHEMA_VERSION}"


def version_of(comment: str) -> int | None:
    """The schema version in a table's comment; None where the table is not ours."""
    found = _MARK.match(comment)
    return int(found[1]) if found else None


def retention_seconds(text: str) -> int:
    """``3d``, ``12h``, ``90m`` ... in seconds. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if not found or not int(found[1]):
        raise ValueError(
            f"retention {text!r} is not a length of time: write it like 3d, 12h or 90m"
        )
    return int(found[1]) * _UNITS[found[2]]
