"""Fills rollups that are made anew: from records, and from rollups of version 2."""

from __future__ import annotations

import logging
from typing import Final

from relay.store import ddl
from relay.store.client import Client
from relay.store.names import NODE_FIELDS
from relay.store.rollup import (
    ENDS,
    HOURS,
    KEYS,
    MINUTES,
    OF_PATH,
    ONE_END,
    ROLLUPS,
    SUMS,
    TIMES,
    Rollup,
    end_id,
    keys,
    select,
    select_ends,
    since_of,
)

log = logging.getLogger(__name__)

OLD: Final = "_v2"
"""Ends the name of a table of version 2 that was set aside."""
_ONCE: Final = {"insert_deduplicate": 0}
_SINCE_3: Final = {"zone": "''", "labels": "''", "services": "''", "identity": "toUInt32(0)"}
"""Attributes that rows of version 2 do not have."""


def set_aside(client: Client) -> dict[str, str]:
    """Rename the rollups of version 2: the names they had and their comments."""
    names = {"names": [n for r in ROLLUPS for n in (r.name, r.name + OLD)]}
    found = client.query(
        "SELECT name, comment, create_table_query LIKE '%`channel`%' FROM system.tables"
        " WHERE database = currentDatabase() AND name IN {names:Array(String)}",
        names,
    ).result_rows
    # what says nothing of itself was left by a start that was cut short
    have = {str(n): str(comment) for n, comment, _ in found if since_of(comment) is not None}
    new = {str(name) for name, _, by_channel in found if by_channel}
    for rollup in ROLLUPS:
        client.command(f"DROP VIEW IF EXISTS {rollup.name}_view")
        old = rollup.name + OLD
        # where both are there, a migration was cut short: the new one has channels
        if rollup.name in have and rollup.name not in new and old not in have:
            client.command(f"RENAME TABLE {rollup.name} TO {old}")
            have[old] = have[rollup.name]
    return {r.name: have[r.name + OLD] for r in ROLLUPS if r.name + OLD in have}


def take_over(client: Client, rollup: Rollup, end_ns: int) -> None:
    """Rows of version 2 before ``end_ns``, without latencies.

    It had sets of flows: how many were open before a bucket is known, and not which.
    """
    none = ", ".join(
        f"{value} AS {side}_{name}" for side in ("src", "dst") for name, value in _SINCE_3.items()
    )
    names = ("bucket", *KEYS, *OF_PATH, *SUMS, *TIMES, "drop_reasons", "carried")
    channel = "src_ip, dst_ip, proto, port"
    made = {
        "path": f"cityHash64({channel}, reporter, node, interface)",
        "channel": f"cityHash64({channel})",
    }
    made |= {side: end_id(side) for side in ("src", "dst")}
    active, opened = (f"toInt64(finalizeAggregation({name}))" for name in ("active", "opened"))
    made["carried"] = f"range(toUInt64(least(greatest({active} - {opened}, 0), 65536)))"
    values = ", ".join(f"{made[name]} AS {name}" if name in made else name for name in names)
    days = client.query(
        f"SELECT DISTINCT toUnixTimestamp(toStartOfDay(bucket)) AS day FROM {rollup.name}{OLD}"
        f" WHERE bucket < toDateTime({end_ns // 10**9}, 'UTC') ORDER BY day"
    ).result_rows
    for (day,) in days:
        begin, end = int(day), min(int(day) + 86_400, end_ns // 10**9)
        rows = (
            f"FROM (SELECT *, {none} FROM {rollup.name}{OLD}"
            f" WHERE bucket >= toDateTime({begin}, 'UTC') AND bucket < toDateTime({end}, 'UTC'))"
        )
        client.command(
            f"INSERT INTO {rollup.name} ({', '.join(names)}) SELECT {values} {rows}",
            settings=_ONCE,
        )
        for side in ("src", "dst"):
            fields = ", ".join(f"{side}_{name}" for name in NODE_FIELDS)
            client.command(
                f"INSERT INTO {ENDS} SELECT toStartOfDay(bucket) AS bucket, {end_id(side)} AS id,"
                f" last, {side}_ip, {fields} {rows} {ONE_END}",
                settings=_ONCE,
            )
    log.warning("taken over: table=%s days=%d", rollup.name, len(days))


def backfill(client: Client, begin_ns: int = 0) -> None:
    """Rows of all records from ``begin_ns`` on; those by hour come by their view."""
    hours = client.query(
        "SELECT DISTINCT toUnixTimestamp(toStartOfHour(toDateTime(time, 'UTC'))) AS hour"
        f" FROM {ddl.TABLE} WHERE time >= fromUnixTimestamp64Nano({begin_ns}, 'UTC') ORDER BY hour"
    ).result_rows
    for i, (hour,) in enumerate(hours):
        if i % 24 == 0:
            log.warning("rollups are made from records: %d of %d hours done", i, len(hours))
        # an hour at a time: all at once would not fit into memory
        rows = (
            f"AND time >= toDateTime64({hour}, 9, 'UTC')"
            f" AND time < toDateTime64({int(hour) + HOURS.seconds}, 9, 'UTC')"
        )
        client.command(
            f"INSERT INTO {MINUTES.name} {select(MINUTES)} {rows} GROUP BY {keys()}",
            settings=_ONCE,
        )
        for side in ("src", "dst"):
            client.command(
                f"INSERT INTO {ENDS} {select_ends(side)} {rows} {ONE_END}", settings=_ONCE
            )
