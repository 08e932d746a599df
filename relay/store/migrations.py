"""Versions of the store, and the way from each to the next. There is no way back.

Raise ``VERSION`` and add a step for a change that ``CREATE TABLE`` alone does not bring to stores
that exist. A step may be done again after a crash in its middle. New columns of the schema need no
step: whatever is missing is added at every start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from flowobs import schema
from relay.store import ddl
from relay.store.backfill import OLD, backfill, set_aside, take_over
from relay.store.client import Client
from relay.store.errors import StoreError
from relay.store.rollup import HOURS, MINUTES, ROLLUPS, create, create_ends, since_of

log = logging.getLogger(__name__)

VERSION = 4

_NEVER_NS: Final = 4 * 10**9 * 10**9
"""Later than all records of a store that has none."""


Step = Callable[[Client, int], None]
"""Takes a client and the deduplication window."""


def _retention(client: Client, window: int) -> None:
    """1 -> 2: retention is ours instead of the engine's TTL. Rollups come with 3.

    Rollups that are there already were left, perhaps half filled, by a migration cut short.
    """
    for rollup in ROLLUPS:
        client.command(f"DROP TABLE IF EXISTS {rollup.name}_view")
        client.command(f"DROP TABLE IF EXISTS {rollup.name}")
    statement = str(client.command(f"SHOW CREATE TABLE {ddl.TABLE}"))
    if "TTL toDateTime" in statement:
        client.command(f"ALTER TABLE {ddl.TABLE} REMOVE TTL")


def _rollups(client: Client, window: int) -> None:
    """2 -> 3: rollups by ids of ends, with latencies, of all records that are there.

    What only the rollups of version 2 still know goes over as it is. Nobody may write meanwhile.
    """
    client.command(f"ALTER TABLE {ddl.TABLE} MODIFY SETTING {ddl.settings(window)}")
    old = set_aside(client)
    first = str(client.command(f"SELECT toUnixTimestamp64Nano(min(time)) FROM {ddl.TABLE}"))
    oldest = int(first) or _NEVER_NS
    since = max((since_of(comment) or 0 for comment in old.values()), default=0)
    begin = 0  # of what is made of records
    if old and since <= oldest:
        begin = -(-oldest // HOURS.ns) * HOURS.ns
    else:
        since = 0
    for statement in (*create_ends(window), *create(MINUTES, since // 10**9, window)):
        client.command(statement)
    *hours, view = create(HOURS, since // 10**9, window)
    for statement in hours:
        client.command(statement)
    if begin:
        for rollup in ROLLUPS:
            if rollup.name in old:
                take_over(client, rollup, begin)
    client.command(view)
    backfill(client, begin)
    for table in old:
        client.command(f"DROP TABLE {table}{OLD}")


def _views(client: Client, window: int) -> None:
    """3 -> 4: rollups are filled by the views of today. Nobody may write meanwhile."""
    for rollup in ROLLUPS:
        drop, *_, view = create(rollup, 0, window)
        client.command(drop)
        client.command(view)


_STEPS: dict[int, Step] = {2: _retention, 3: _rollups, 4: _views}
"""How to get to a version from the one before it."""


def make_rollups(client: Client, window: int, since: int) -> None:
    """Make all rollups anew; what came before ``since`` is not in them."""
    statements = [s for rollup in ROLLUPS for s in create(rollup, since, window)]
    for statement in (*create_ends(window), *statements):
        client.command(statement)


def prepare(
    client: Client, url: str, window: int, check_room: Callable[[], None] = lambda: None
) -> None:
    """Make the tables, or bring them to this version. Raises StoreError.

    ``check_room`` raises it where the disk is full: there the embedded engine leaves the definition
    of a table that is changed empty, and never opens the store again.
    """
    found = client.query(
        "SELECT comment FROM system.tables"
        " WHERE database = currentDatabase() AND name = {table:String}",
        {"table": ddl.TABLE},
    ).result_rows
    if not found:
        client.command(ddl.create_table(0, window))
    version = ddl.version_of(found[0][0]) if found else 0
    if version is None:
        raise StoreError(
            f"the store {url} has a table {ddl.TABLE} that flowobs did not make:"
            " give another database or folder with --store"
        )
    if version > VERSION:
        raise StoreError(
            f"the store {url} has schema version {version}, this relay knows {VERSION}:"
            " run a newer flowobs, or give an empty store"
        )
    if version == 0:  # new, or its making was cut short
        make_rollups(client, window, 0)
        client.command(f"ALTER TABLE {ddl.TABLE} MODIFY COMMENT '{ddl.mark(VERSION)}'")
        return
    if version < VERSION:
        check_room()
    _add_columns(client, check_room)  # first: steps are written for the columns of today
    for number in range(version + 1, VERSION + 1):
        log.warning("the store %s becomes version %d", url, number)
        _STEPS[number](client, window)
        client.command(f"ALTER TABLE {ddl.TABLE} MODIFY COMMENT '{ddl.mark(number)}'")


def _add_columns(client: Client, check_room: Callable[[], None]) -> None:
    have = {
        row[0]
        for row in client.query(
            "SELECT name FROM system.columns"
            " WHERE database = currentDatabase() AND table = {table:String}",
            {"table": ddl.TABLE},
        ).result_rows
    }
    before = ""
    for column in schema.COLUMNS:
        if column.name not in have:
            check_room()
            place = f"AFTER `{before}`" if before else "FIRST"
            client.command(f"ALTER TABLE {ddl.TABLE} ADD COLUMN {ddl.column(column)} {place}")
        before = column.name
