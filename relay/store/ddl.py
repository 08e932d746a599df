"""SQL of the store's tables, derived from the schema.

Enums are stored as plain UInt8 and named where they are shown: a number that this version has no
name for (a newer agent) survives the round trip, and a new name needs no change of the table.
"""

from __future__ import annotations

import re

from flowobs import schema

TABLE = "flows"

NAMES = [c.name for c in schema.COLUMNS]
"""Columns of the table, in order."""

COLUMN_LIST = ", ".join(f"`{name}`" for name in NAMES)

DEDUPLICATION_WINDOW = 10_000
"""Latest inserts a table remembers by token: more than agents can hold un-acknowledged."""

MAX_PART_BYTES = 1024 * 1024 * 1024
"""Parts are not merged beyond this: a part is the least that retention can remove."""

LEAST_PARTS = 20
"""Where the store has a size, no part is larger than one of so many: records go part by part, and
what a merge writes is as large as what it replaces."""

OLD_PARTS_S = 10
"""How long parts stay on disk after they were merged. The engine's default is eight minutes, until
the system has written what they became: ours is written at once."""

COMPRESS_BYTES = 128 * 1024
"""Buffer of each column of a part that is written: with the engine's 1 MiB an insert of 60,000
records took 320 MB, with this 70 MB, and neither CPU nor disk differ."""

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
_MARK = re.compile(r"^flowobs schema (\d+)$")


def store_type(column: schema.Column) -> str:
    """The ClickHouse type of a column."""
    return _TYPES[column.type]


def column(column: schema.Column) -> str:
    """A column's name, type and codec."""
    codec = _CODECS.get(column.type, "ZSTD(1)")
    return f"`{column.name}` {store_type(column)} CODEC({codec})"


def settings(window: int) -> str:
    """Settings of every table of ours."""
    return (
        f"non_replicated_deduplication_window = {window},"
        f" {', '.join(parts(None))},"
        f" max_compress_block_size = {COMPRESS_BYTES}"
    )


def create_table(version: int, window: int = DEDUPLICATION_WINDOW) -> str:
    """CREATE TABLE of the flows table."""
    columns = ",\n  ".join(column(c) for c in schema.COLUMNS)
    return (
        f"CREATE TABLE IF NOT EXISTS {TABLE} (\n  {columns}\n)\nENGINE = MergeTree\n"
        f"PARTITION BY toDate(time)\nORDER BY time\n"
        f"SETTINGS {settings(window)}\nCOMMENT '{mark(version)}'"
    )


def parts(max_bytes: int | None) -> tuple[str, ...]:
    """The settings that say what parts take, in a store of at most ``max_bytes``."""
    most = MAX_PART_BYTES if max_bytes is None else min(MAX_PART_BYTES, max_bytes // LEAST_PARTS)
    return (
        f"max_bytes_to_merge_at_max_space_in_pool = {most}",
        f"old_parts_lifetime = {OLD_PARTS_S}",
        "min_rows_to_fsync_after_merge = 1",
    )


def mark(version: int) -> str:
    """The table's comment: says whose it is and of which version the store is."""
    return f"flowobs schema {version}"


def version_of(comment: str) -> int | None:
    """The store's version in a table's comment; None where the table is not ours."""
    found = _MARK.match(comment)
    return int(found[1]) if found else None
