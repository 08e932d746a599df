"""The rollups of a store of version 2, for the test of the way from there."""

from __future__ import annotations

_NAMES = ("cluster", "namespace", "name", "workload", "workload_kind", "service", "node")
_SUMS = (
    "records", "opens", "closes", "seen", "packets", "bytes", "reply_packets", "reply_bytes",
    "drops", "retransmit_events", "again", "resets", "fails",
)  # fmt: skip
_TEXT = "LowCardinality(String)"
_COLUMNS = [
    "bucket DateTime('UTC')",
    *("proto UInt8", "src_ip IPv6", "dst_ip IPv6", "port UInt16", "reporter UInt8"),
    *(f"{name} {_TEXT}" for name in ("node", "interface", "source", "destination")),
    *(
        f"{side}_{name} {'UInt8' if name == 'kind' else _TEXT}"
        for side in ("src", "dst")
        for name in ("kind", *_NAMES)
    ),
    *(f"{name} SimpleAggregateFunction(sum, UInt64)" for name in _SUMS),
    "drop_reasons SimpleAggregateFunction(sumMap, Map(String, UInt64))",
    "first SimpleAggregateFunction(min, DateTime64(9, 'UTC'))",
    "last SimpleAggregateFunction(max, DateTime64(9, 'UTC'))",
    "active AggregateFunction(uniqCombined64(12), UInt64)",
    "opened AggregateFunction(uniqCombined64(12), UInt64)",
]
_KEY = ", ".join(c.split()[0] for c in _COLUMNS if "AggregateFunction" not in c)


def rollup(table: str, rows: str) -> list[str]:
    """Statements that make ``table`` with a web and an api for each row of ``rows``.

    ``rows`` is SQL that gives ``bucket``.
    """
    return [
        f"CREATE TABLE {table} ({', '.join(_COLUMNS)}) ENGINE = AggregatingMergeTree"
        f" PARTITION BY toDate(bucket) ORDER BY ({_KEY})"
        " COMMENT 'flowobs rollup since 0'",
        f"INSERT INTO {table} (bucket, proto, port, reporter, src_ip, dst_ip, source, destination,"
        " src_kind, src_namespace, src_name, dst_kind, dst_namespace, dst_name,"
        " records, opens, seen, packets, bytes, first, last, active, opened)"
        " SELECT bucket, 6, 80, 1, toIPv6('10.0.0.1'), toIPv6('10.0.0.2'), 'shop/web', 'shop/api',"
        " 1, 'shop', 'web', 1, 'shop', 'api', 1, 1, 1, 10, 1000, bucket, bucket,"
        " uniqCombined64State(12)(toUInt64(toUInt32(bucket))),"
        " uniqCombined64State(12)(toUInt64(toUInt32(bucket)))"
        f" FROM ({rows}) GROUP BY bucket",
    ]
