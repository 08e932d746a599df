"""The rollups: what was counted at each observation point, by minute and by hour.

A row is a *path*: a channel (both addresses, protocol, the destination's port) at one observation
point; with the ids of its ends. Observation points stay apart, so that a query can still count each
flow once. What one flow did is gone: those that were opened are counted, and those that were open
before their bucket are listed. Who an end is, is in a table of its own, once for each day: names
are long, and numbers are quick to group by.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from flowobs import schema
from flowobs.schema import Kind, Protocol
from relay.store import ddl, histogram
from relay.store.names import NODE_FIELDS

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
    together: str
    """Buckets that are stored by end: questions about one end read little, as do short ones."""

    @property
    def ns(self) -> int:
        """A bucket's length."""
        return self.seconds * _NS


MINUTES: Final = Rollup("flows_1m", "1m", 60, ddl.TABLE, "toStartOfTenMinutes(bucket)")
HOURS: Final = Rollup("flows_1h", "1h", 3600, MINUTES.name, "toStartOfHour(bucket)")
ROLLUPS: Final = (MINUTES, HOURS)
ENDS: Final = "flows_ends"
"""Who the ends of rollups are: a row per end and day."""
TABLES: Final = (ddl.TABLE, *(rollup.name for rollup in ROLLUPS), ENDS)

_ICMP: Final = f"({Protocol.icmp:d}, {Protocol.icmpv6:d})"
TRAFFIC: Final = f"kind IN ({Kind.open:d}, {Kind.update:d}, {Kind.close:d})"
_HANDSHAKE: Final = "bitAnd(bitOr(tcp_flags, reply_tcp_flags), 2) > 0"
# With the table's name, because rollups call their own columns the same.
FLOW: Final = f"cityHash64({ddl.TABLE}.proto, src_ip, dst_ip, src_port, dst_port)"
_PORT: Final = f"if({ddl.TABLE}.proto IN {_ICMP}, 0, dst_port)"
_CHANNEL: Final = f"src_ip, dst_ip, {ddl.TABLE}.proto, {_PORT}"
_POINT: Final = ", ".join(f"{ddl.TABLE}.{name}" for name in ("reporter", "node", "interface"))
RECORDS: Final = f"kind != {Kind.lost:d}"
"""Records that are of flows."""


def end_id(side: str) -> str:
    """The id of a record's end: all that is known of it, in a number."""
    # Each name is hashed once per dictionary, not once per row.
    parts = [
        f"cityHash64({side}_{name})"
        if schema.BY_NAME[f"{side}_{name}"].type == "string"
        else f"{side}_{name}"
        for name in NODE_FIELDS
    ]
    return f"cityHash64({side}_ip, {', '.join(parts)})"


def _events(kind: Kind) -> str:  # `lost`: like events the probe held back by its rate limit
    return f"(kind = {kind:d}) * (1 + lost)"


KEYS: Final[dict[str, tuple[str, str]]] = {
    "path": ("UInt64", f"cityHash64({_CHANNEL}, {_POINT})"),
    "src": ("UInt64", end_id("src")),
    "dst": ("UInt64", end_id("dst")),
}
"""What rows of a bucket differ in: name -> type, and how it comes from a record."""

OF_PATH: Final[dict[str, tuple[str, str]]] = {
    "channel": ("UInt64", f"cityHash64({_CHANNEL})"),
    "reporter": ("UInt8", f"{ddl.TABLE}.reporter"),
    "node": ("LowCardinality(String)", f"{ddl.TABLE}.node"),
    "interface": ("LowCardinality(String)", f"{ddl.TABLE}.interface"),
    "proto": ("UInt8", f"{ddl.TABLE}.proto"),
    "port": ("UInt16", _PORT),
}
"""What all records of a path have in common; as in ``KEYS``."""

SUMS: Final[dict[str, str]] = {
    "records": "1",
    "opens": f"kind = {Kind.open:d}",
    "closes": f"kind = {Kind.close:d}",
    "seen": TRAFFIC,
    "packets": "packets",
    "bytes": "bytes",
    "reply_packets": "reply_packets",
    "reply_bytes": "reply_bytes",
    "drops": _events(Kind.drop),
    "retransmit_events": _events(Kind.retransmit),
    "again": "toUInt64(retransmits) + reply_retransmits",
    "resets": _events(Kind.reset),
    "fails": f"kind = {Kind.fail:d}",
}
"""Columns that add up: name -> how it comes from a record."""

TIMES: Final[dict[str, str]] = {"first": "min", "last": "max"}

REASONS: Final = f"map(toString(drop_reason), (kind = {Kind.drop:d}) * (1 + lost))"
"""Of a drop: its reason and how many of it."""

LATENCIES: Final[dict[str, str]] = {
    # A record repeats what is known of its connection: the handshake is in the one with the SYN.
    "connect": f"if({_HANDSHAKE}, connect_ns, 0)",
    "rtt": f"""multiIf(src_srtt_us > 0, src_srtt_us * toUInt64(1000),
      dst_srtt_us > 0, dst_srtt_us * toUInt64(1000),
      {_HANDSHAKE}, toUInt64(src_rtt_ns) + dst_rtt_ns, 0)""",
}
"""Histograms: name -> what a record adds, in nanoseconds; nothing where that is 0."""

BEGAN: Final = f"toUInt64(greatest(intDiv(toUnixTimestamp64Nano(time) - duration, {_NS}), 0))"
"""When a record's flow began: a Unix time."""

CARRIED: Final = f"{BEGAN} * 65536 + src_port"
"""A flow of a channel: when it began, in the upper 48 bits, and the source's port. Nothing else
differs: ICMP has its identifier in both ports."""


def carried(since: str) -> str:
    """Whether a record is traffic of a flow that began before ``since``, a Unix time."""
    return f"{TRAFFIC} AND {BEGAN} < {since}"


def start_of(unit: str, time: str = "time") -> str:
    """The bucket (``Minute``, ``Hour``, ``Day``) of a record's time."""
    return f"toStartOf{unit}(toDateTime({time}, 'UTC'))"


def _from_records() -> str:
    """What to SELECT of records for rows of a rollup; goes with ``GROUP BY`` :func:`keys`."""
    values = [f"{start_of('Minute')} AS bucket"]
    values += [f"{how} AS {name}" for name, (_, how) in KEYS.items()]
    values += [f"any({how}) AS {name}" for name, (_, how) in OF_PATH.items()]
    values += [f"sum(toUInt64({how})) AS {name}" for name, how in SUMS.items()]
    values += [f"{function}(time) AS {name}" for name, function in TIMES.items()]
    values += [f"sumMapIf({REASONS}, kind = {Kind.drop:d}) AS drop_reasons"]
    values += [f"{histogram.of(f'({ns})')} AS {name}" for name, ns in LATENCIES.items()]
    before = carried(f"toUnixTimestamp({start_of('Minute')})")
    values += [f"groupUniqArrayIf({CARRIED}, {before}) AS carried"]
    return ",\n  ".join(values)


def _combined() -> str:
    """What to SELECT of rows by minute for rows by hour."""
    values = ["toStartOfHour(t.bucket) AS bucket", *KEYS]
    values += [f"any(t.{name}) AS {name}" for name in OF_PATH]
    values += [f"sum({name}) AS {name}" for name in SUMS]
    values += [f"{function}({name}) AS {name}" for name, function in TIMES.items()]
    values += [f"sumMap({name}) AS {name}" for name in ("drop_reasons", *LATENCIES)]
    # the others were opened within the hour
    before = "toUnixTimestamp(toStartOfHour(t.bucket)) * 65536"
    values += [f"groupUniqArrayArray(arrayFilter(x -> x < {before}, t.carried)) AS carried"]
    return ",\n  ".join(values)


def keys() -> str:
    """What rows of a rollup differ in."""
    return ", ".join(["bucket", *KEYS])


def select(rollup: Rollup) -> str:
    """Rows of a rollup, of what is in its source; goes on with more conditions."""
    if rollup.source == ddl.TABLE:
        return f"SELECT {_from_records()}\nFROM {ddl.TABLE}\nWHERE {RECORDS}"
    return f"SELECT {_combined()}\nFROM {rollup.source} AS t\nWHERE 1"


def select_ends(side: str) -> str:
    """The ends on one side of records; goes on with more conditions."""
    fields = ", ".join(f"{side}_{name} AS {name}" for name in NODE_FIELDS)
    return (
        f"SELECT {start_of('Day')} AS bucket, {end_id(side)} AS id, time AS last,\n"
        f"  {side}_ip AS ip, {fields}\nFROM {ddl.TABLE}\nWHERE {ddl.TABLE}.{RECORDS}"
    )


ONE_END: Final = "LIMIT 1 BY bucket, id"
"""Ends what :func:`select_ends` begins: cheaper than GROUP BY with a dozen attributes."""


def create(rollup: Rollup, since: int, window: int) -> list[str]:
    """Make the table and its view anew. It has all records from ``since`` (a Unix time) on."""
    columns = [
        "`bucket` DateTime('UTC') CODEC(Delta(4), ZSTD(1))",
        *(f"`{name}` {type} CODEC(ZSTD(1))" for name, (type, _) in KEYS.items()),
        *(
            f"`{name}` SimpleAggregateFunction(any, {type}) CODEC(ZSTD(1))"
            for name, (type, _) in OF_PATH.items()
        ),
        *(
            f"`{name}` SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))"
            for name in SUMS
        ),
        *(
            f"`{name}` SimpleAggregateFunction({function}, DateTime64(9, 'UTC')) CODEC(ZSTD(1))"
            for name, function in TIMES.items()
        ),
        "`drop_reasons` SimpleAggregateFunction(sumMap, Map(String, UInt64)) CODEC(ZSTD(1))",
        *(
            f"`{name}` SimpleAggregateFunction(sumMap, {histogram.TYPE}) CODEC(ZSTD(1))"
            for name in LATENCIES
        ),
        # at most one of each of 65,536 ports, or a few
        "`carried` SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64)) CODEC(ZSTD(1))",
    ]  # fmt: skip
    return [
        f"DROP TABLE IF EXISTS {rollup.name}_view",
        f"DROP TABLE IF EXISTS {rollup.name}",
        f"CREATE TABLE {rollup.name} (\n  " + ",\n  ".join(columns) + "\n)\n"
        "ENGINE = AggregatingMergeTree\nPARTITION BY toDate(bucket)\n"
        f"PRIMARY KEY ({rollup.together}, dst)\n"
        f"ORDER BY ({rollup.together}, dst, src, path, bucket)\n"
        # small pieces, so that a question about one end need not decompress all others
        f"SETTINGS {ddl.settings(window)}, index_granularity = 1024,"
        " min_compress_block_size = 8192\n"
        f"COMMENT 'flowobs rollup since {since}'",
        f"CREATE MATERIALIZED VIEW {rollup.name}_view TO {rollup.name} AS\n"
        f"{select(rollup)}\nGROUP BY {keys()}",
    ]


def create_ends(window: int) -> list[str]:
    """Make the table of ends and its views anew."""
    columns = [
        "`bucket` DateTime('UTC') CODEC(Delta(4), ZSTD(1))",
        "`id` UInt64 CODEC(ZSTD(1))",
        "`last` DateTime64(9, 'UTC') CODEC(ZSTD(1))",
        "`ip` IPv6 CODEC(ZSTD(1))",
        *(
            f"`{name}` {ddl.store_type(schema.BY_NAME[f'src_{name}'])} CODEC(ZSTD(1))"
            for name in NODE_FIELDS
        ),
    ]
    views = {f"{ENDS}_{side}_view": side for side in ("src", "dst")}
    return [
        *(f"DROP TABLE IF EXISTS {view}" for view in views),
        f"DROP TABLE IF EXISTS {ENDS}",
        f"CREATE TABLE {ENDS} (\n  " + ",\n  ".join(columns) + "\n)\n"
        "ENGINE = ReplacingMergeTree(last)\nPARTITION BY toDate(bucket)\nORDER BY (bucket, id)\n"
        f"SETTINGS {ddl.settings(window)}",
        *(
            f"CREATE MATERIALIZED VIEW {view} TO {ENDS} AS\n{select_ends(side)}\n{ONE_END}"
            for view, side in views.items()
        ),
    ]


def since_of(comment: str) -> int | None:
    """From when on a rollup has all records (ns), by its table's comment."""
    found = _SINCE.match(comment)
    return int(found[1]) * _NS if found else None
