"""Versions of the store, and the way from each to the next. There is no way back.

Raise ``VERSION`` and add a step for a change that ``CREATE TABLE`` alone does not bring to stores
that exist. A step may be done again after a crash in its middle. New columns of the schema need no
step: whatever is missing is added at every start.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

from flowobs import schema
from relay.store import ddl
from relay.store.errors import StoreError
from relay.store.rollup import HOURS, ROLLUPS, create

log = logging.getLogger(__name__)

VERSION = 2


class Client(Protocol):
    """What is needed of a client: of one server, or of a cluster."""

    def command(self, sql: str, /) -> Any: ...

    def query(self, sql: str, parameters: dict[str, Any], /) -> Any: ...


Step = Callable[[Client, int], None]
"""Takes a client and the deduplication window."""


def _rollups(client: Client, window: int) -> None:
    """1 -> 2: rollups of what comes from now on; retention is ours instead of the engine's TTL."""
    statement = str(client.command(f"SHOW CREATE TABLE {ddl.TABLE}"))
    if "TTL toDateTime" in statement:
        client.command(f"ALTER TABLE {ddl.TABLE} REMOVE TTL")
    client.command(f"ALTER TABLE {ddl.TABLE} MODIFY SETTING {ddl.settings(window)}")
    newest = client.command(f"SELECT toUnixTimestamp(max(time)) FROM {ddl.TABLE}")
    since = max(time.time(), int(str(newest)))
    make_rollups(client, window, math.ceil(since / HOURS.seconds) * HOURS.seconds)


_STEPS: dict[int, Step] = {2: _rollups}
"""How to get to a version from the one before it."""


def make_rollups(client: Client, window: int, since: int) -> None:
    """Make all rollups anew; what came before ``since`` is not in them."""
    for rollup in ROLLUPS:
        for statement in create(rollup, since, window):
            client.command(statement)


def prepare(client: Client, url: str, window: int) -> None:
    """Make the tables, or bring them to this version. Raises StoreError."""
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
    _add_columns(client)  # first: steps are written for the columns of today
    for number in range(version + 1, VERSION + 1):
        log.warning("the store %s becomes version %d", url, number)
        _STEPS[number](client, window)
        client.command(f"ALTER TABLE {ddl.TABLE} MODIFY COMMENT '{ddl.mark(number)}'")


def _add_columns(client: Client) -> None:
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
            place = f"AFTER `{before}`" if before else "FIRST"
            client.command(f"ALTER TABLE {ddl.TABLE} ADD COLUMN {ddl.column(column)} {place}")
        before = column.name
