"""The rollups: what was counted at each observation point, by minute and by hour.

A row is a *channel* (both addresses, protocol, the destination's port) at one observation point,
with the names of its ends. Observation points stay apart, so that a query can still count each
flow once. What one flow did is gone, but for two sets that say how many there were.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from flowobs import schema
from flowobs.schema import Kind, Protocol
from relay.store import ddl
from relay.store.names import NODE_FIELDS, end_id

_NS: Final = 1_000_000_000
_SINCE: Final = re.compile(r"^flowobs rollup since (\d+)$")


@dataclass(frozen=True, slots=True)
class Rollup:
    """A table of buckets, filled from ``source`` by a materialised view."""

    name: str
    label: str
    """What --retention calls it."""
    seconds: int
    source: str

    @property
    def ns(self) -> int:
        """A bucket's length."""
        return self.seconds * _NS


MINUTES: Final = Rollup("flows_1m", "1m", 60, ddl.TABLE)
HOURS: Final = Rollup("flows_1h", "1h", 3600, MINUTES.name)
ROLLUPS: Final = (MINUTES, HOURS)

_ICMP: Final = f"({Protocol.icmp:d}, {Protocol.icmpv6:d})"
_TRAFFIC: Final = f"kind IN ({Kind.open:d}, {Kind.update:d}, {Kind.close:d})"
_FLOW: Final = "cityHash64(proto, src_ip, dst_ip, src_port, dst_port)"


def _events(kind: Kind) -> str:  # `lost`: like events the probe held back by its rate limit
    return f"sumIf(1 + lost, kind = {kind:d})"


KEYS: Final[dict[str, tuple[str, str]]] = {
    "proto": ("UInt8", "proto"),
    "src_ip": ("IPv6", "src_ip"),
    "dst_ip": ("IPv6", "dst_ip"),
    "port": ("UInt16", f"if(proto IN {_ICMP}, 0, dst_port)"),
    "reporter": ("UInt8", "reporter"),
    "node": ("LowCardinality(String)", "node"),
    "interface": ("LowCardinality(String)", "interface"),
    "source": ("LowCardinality(String)", end_id("src")),
    "destination": ("LowCardinality(String)", end_id("dst")),
} | {
    name: (ddl.store_type(schema.BY_NAME[name]), name)
    for side in ("src", "dst")
    for name in (f"{side}_{field}" for field in NODE_FIELDS)
}
"""Name -> type, and how it comes from a record."""

CHANNEL: Final = "proto, src_ip, dst_ip, port"

SUMS: Final[dict[str, str]] = {
    "records": "count()",
    "opens": f"countIf(kind = {Kind.open:d})",
    "closes": f"countIf(kind = {Kind.close:d})",
    "seen": f"countIf({_TRAFFIC})",
    "packets": "sum(packets)",
    "bytes": "sum(bytes)",
    "reply_packets": "sum(reply_packets)",
    "reply_bytes": "sum(reply_bytes)",
    "drops": _events(Kind.drop),
    "retransmit_events": _events(Kind.retransmit),
    "again": "sum(toUInt64(retransmits) + reply_retransmits)",
    "resets": _events(Kind.reset),
    "fails": f"countIf(kind = {Kind.fail:d})",
}
"""Columns that add up: name -> how it comes from records."""

_COUNTS: Final = "Map(String, UInt64)"
_TIME: Final = "DateTime64(9, 'UTC')"
_SET: Final = "uniqCombined64{}(12)"
"""Of hashes: exact up to some hundred, then within 2 %, and never more than 3 KB."""

SIMPLE: Final[dict[str, tuple[str, str, str]]] = {
    "drop_reasons": (
        "sumMap",
        _COUNTS,
        f"sumMapIf(map(toString(drop_reason), toUInt64(1 + lost)), kind = {Kind.drop:d})",
    ),
    "first": ("min", _TIME, "min(time)"),
    "last": ("max", _TIME, "max(time)"),
}
"""Other columns that combine: name -> function, type, and how it comes from records. A histogram
column is one more line: ``sumMap`` of ``map(bucket, 1)``."""

SETS: Final[dict[str, str]] = {
    "active": f"{_SET.format('StateIf')}({_FLOW}, {_TRAFFIC})",
    "opened": f"{_SET.format('StateIf')}({_FLOW}, kind = {Kind.open:d})",
}
"""Sets of flows: those with packets, and those that were opened."""


def merge_sets(name: str, *, finish: bool = False) -> str:
    """Of several rows' sets ``name`` one; with ``finish`` its size."""
    return f"{_SET.format('Merge' if finish else 'MergeState')}({name})"


def from_records(unit: str = "Minute") -> str:
    """What to SELECT of records for rows of a rollup; goes with ``GROUP BY`` :func:`keys`."""
    values = [f"toStartOf{unit}(toDateTime(time, 'UTC')) AS bucket"]
    values += [f"{how} AS {name}" if how != name else name for name, (_, how) in KEYS.items()]
    values += [f"{how} AS {name}" for name, how in SUMS.items()]
    values += [f"{how} AS {name}" for name, (_, _, how) in SIMPLE.items()]
    values += [f"{how} AS {name}" for name, how in SETS.items()]
    return ",\n  ".join(values)


def combined(bucket: str = "bucket", *, names: bool = True) -> str:
    """What to SELECT of a rollup's rows for fewer rows."""
    values = [f"{bucket} AS bucket" if bucket != "bucket" else bucket]
    values += KEYS if names else []
    values += [f"sum({name}) AS {name}" for name in SUMS]
    values += [f"{function}({name}) AS {name}" for name, (function, _, _) in SIMPLE.items()]
    values += [f"{merge_sets(name)} AS {name}" for name in SETS]
    return ",\n  ".join(values)


def keys() -> str:
    """What rows of a rollup differ in."""
    return ", ".join(["bucket", *KEYS])


def create(rollup: Rollup, since: int, window: int) -> list[str]:
    """Make the table and its view anew. It has all records from ``since`` (a Unix time) on."""
    columns = [
        "`bucket` DateTime('UTC') CODEC(Delta(4), ZSTD(1))",
        *(f"`{name}` {type} CODEC(ZSTD(1))" for name, (type, _) in KEYS.items()),
        *(
            f"`{name}` SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))"
            for name in SUMS
        ),
        *(
            f"`{name}` SimpleAggregateFunction({function}, {type}) CODEC(ZSTD(1))"
            for name, (function, type, _) in SIMPLE.items()
        ),
        *(
            f"`{name}` AggregateFunction({_SET.format('')}, UInt64) CODEC(ZSTD(1))"
            for name in SETS
        ),
    ]  # fmt: skip
    view = f"{rollup.name}_view"
    table = (
        f"CREATE TABLE {rollup.name} (\n  " + ",\n  ".join(columns) + "\n)\n"
        "ENGINE = AggregatingMergeTree\nPARTITION BY toDate(bucket)\n"
        f"PRIMARY KEY (bucket, {CHANNEL})\nORDER BY ({keys()})\n"
        f"SETTINGS {ddl.settings(window)}\nCOMMENT 'flowobs rollup since {since}'"
    )
    if rollup.source == ddl.TABLE:
        select = f"{from_records()}\nFROM {ddl.TABLE}\nWHERE kind != {Kind.lost:d}"
    else:
        select = f"{combined('toStartOfHour(t.bucket)')}\nFROM {rollup.source} AS t"
    return [
        f"DROP TABLE IF EXISTS {view}",
        f"DROP TABLE IF EXISTS {rollup.name}",
        table,
        f"CREATE MATERIALIZED VIEW {view} TO {rollup.name} AS SELECT {select}\nGROUP BY {keys()}",
    ]


def since_of(comment: str) -> int | None:
    """From when on a rollup has all records (ns), by its table's comment."""
    found = _SINCE.match(comment)
    return int(found[1]) * _NS if found else None
