"""What `flowobs-relay check-store` prints: the store as it is, nothing in it changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flowobs.rows import time_text
from relay.store import ddl
from relay.store.engine import Limits, open_engine
from relay.store.errors import StoreError, explain
from relay.store.migrations import VERSION
from relay.store.rollup import TABLES

_MOST_PARTS = 1000
"""The engine slows inserts down from here on."""


@dataclass(frozen=True, slots=True)
class TableState:
    """One table. Times are seconds since 1970."""

    name: str
    broken: int
    rows: int
    bytes: int
    parts: int
    oldest: int
    newest: int


@dataclass(frozen=True, slots=True)
class StoreState:
    """A store, and what is wrong with it, one sentence each."""

    url: str
    engine: str
    version: int | None
    tables: tuple[TableState, ...]
    problems: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"store    {self.url}"
        yield f"engine   ClickHouse {self.engine}"
        yield f"version  {self.version or 'none'} (this relay: {VERSION})"
        yield ""
        yield f"{'table':<10} {'rows':>14} {'bytes':>16} {'parts':>6}  from .. to"
        for table in self.tables:
            ends = (time_text(at * 10**9)[:19] + "Z" for at in (table.oldest, table.newest))
            span = " .. ".join(ends) if table.rows else "empty"
            yield (
                f"{table.name:<10} {table.rows:>14,} {table.bytes:>16,} {table.parts:>6}  {span}"
            )
        yield ""
        yield from self.problems or ("healthy",)


def check(url: str) -> StoreState:
    """Look at the store at ``url``. Raises StoreError where it cannot be opened."""
    engine = open_engine(url, Limits())
    try:
        client = engine.client({})
        try:
            names = {"tables": list(TABLES)}
            comments: dict[str, str] = dict(
                client.query(
                    "SELECT name, comment FROM system.tables"
                    " WHERE database = currentDatabase() AND name IN {tables:Array(String)}",
                    names,
                ).result_rows  # type: ignore[arg-type]
            )
            parts = client.query(
                "SELECT table, sum(rows), sum(bytes_on_disk), count(),"
                " toUnixTimestamp(min(min_time)), toUnixTimestamp(max(max_time))"
                # one without rows, whose times are zero, is what is left of a dropped one
                " FROM system.parts WHERE active AND rows > 0 AND database = currentDatabase()"
                " AND table IN {tables:Array(String)} GROUP BY table",
                names,
            ).result_rows
            broken: dict[str, int] = dict(
                client.query(
                    "SELECT table, count() FROM system.detached_parts"
                    " WHERE database = currentDatabase() AND startsWith(reason, 'broken')"
                    " GROUP BY table"
                ).result_rows  # type: ignore[arg-type]
            )
            version = str(client.command("SELECT version()"))
            room = _room_problem(engine.check_room)
        finally:
            client.close()
    except StoreError:
        raise
    except Exception as error:
        raise explain(error, url) from None
    finally:
        engine.close()
    have = {row[0]: row[1:] for row in parts}
    tables = tuple(
        TableState(name, broken.get(name, 0), *have.get(name, (0, 0, 0, 0, 0)))
        for name in TABLES
        if name in comments
    )
    mine = ddl.version_of(comments.get(ddl.TABLE, ""))
    return StoreState(engine.url, version, mine, tables, (*_problems(mine, tables), *room))


def _problems(version: int | None, tables: tuple[TableState, ...]) -> Iterator[str]:
    if version is None:
        yield "there is no table of flowobs: start a relay on this store, or name another one"
    elif version > VERSION:
        yield f"version {version} was made by a newer flowobs: install that one"
    elif version < VERSION:
        yield f"version {version} is older than this relay: `flowobs-relay serve` brings it along"
    else:
        missing = [name for name in TABLES if name not in {table.name for table in tables}]
        if missing:
            yield f"tables are missing ({', '.join(missing)}): restore them, or give an empty store"
    for table in tables:
        if table.broken:
            yield (
                f"{table.name} has {table.broken} broken parts, whose rows are lost: check the disk"
            )
        if table.parts >= _MOST_PARTS:
            yield f"{table.name} has {table.parts} parts, merges lag: give the relay more CPU"


def _room_problem(check_room: Callable[[], None]) -> tuple[str, ...]:
    try:
        check_room()
    except StoreError as error:
        return (str(error),)
    return ()
