"""A store on a cluster of ClickHouse servers: the same tables, replicated and distributed.

Each table becomes two on every server: ``NAME_local``, replicated within the server's shard, and
``NAME``, a Distributed table over all shards. Inserts and questions use ``NAME``, so that nothing
else of the store knows of the cluster. Views read and write ``_local`` tables: a shard rolls up
what it stores. The shard of a record follows from its node: an insert that comes again is cut up as
before, and every shard knows its part by the token.

The servers need the macros ``{shard}`` and ``{replica}`` and a keeper, as for any replicated table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from relay.store import ddl
from relay.store.errors import StoreError
from relay.store.retention import Retention
from relay.store.rollup import ENDS, TABLES

WRITE_SETTINGS: Final[dict[str, Any]] = {"distributed_foreground_insert": 1}
"""An insert returns when the shards have it: only then is it acknowledged."""
READ_LOCALLY: Final[dict[str, Any]] = {"distributed_product_mode": "local"}
"""The ends of a shard's rollups are on that shard: `IN` and `JOIN` need not go to others."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_KEEPER: Final = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
_CREATE_TABLE: Final = re.compile(r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+)(.*)", re.S)
_CREATE_VIEW: Final = re.compile(r"^CREATE MATERIALIZED VIEW (\w+) TO (\w+) AS\s(.*)", re.S)
_DROP: Final = re.compile(r"^DROP TABLE IF EXISTS (\w+)$")
_ALTER: Final = re.compile(r"^ALTER TABLE (\w+) (.*)", re.S)
_ENGINE: Final = re.compile(r"^ENGINE = (\w*MergeTree)(?:\((\w*)\))?$", re.M)
_FROM: Final = re.compile(rf"\b(FROM|JOIN) ({'|'.join(TABLES)})\b( AS \w+)?")


def local(table: str) -> str:
    """The table on each server that holds a part of ``table``."""
    return f"{table}_local"


def _replicated(engine: re.Match[str]) -> str:
    arguments = ", ".join(filter(None, (_KEEPER, engine[2])))
    return f"ENGINE = Replicated{engine[1]}({arguments})"


class OnCluster:
    """A client that runs statements about our tables on all servers of the cluster ``name``."""

    def __init__(self, client: Client, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise StoreError(
                f"--cluster {name!r} is no name of a cluster: give one of `SELECT cluster FROM"
                " system.clusters`"
            )
        self._client = client
        self._name = name

    def command(self, sql: str, /, *, settings: dict[str, Any] | None = None) -> Any:
        """Run what :meth:`statements` makes of ``sql``; the last one's result."""
        result: Any = None
        for statement in self.statements(sql):
            result = self._client.command(statement, settings=settings)
        return result

    def query(self, sql: str, parameters: dict[str, Any] | None = None, /) -> Any:
        """Ask the connected server; a parameter ``table`` means its part of that table."""
        given = dict(parameters or {})
        if given.get("table") in TABLES:
            given["table"] = local(given["table"])
        return self._client.query(sql, given)

    def statements(self, sql: str) -> Iterator[str]:
        """``sql`` for the cluster: what it says of a table, of both tables on all servers."""
        on = f"ON CLUSTER '{self._name}'"
        if found := _CREATE_TABLE.match(sql):
            table, rest = found.groups()
            rest = _ENGINE.sub(_replicated, rest)
            rest = rest.replace("non_replicated_deduplication", "replicated_deduplication")
            yield f"CREATE TABLE IF NOT EXISTS {local(table)} {on}{rest}"
            yield (
                f"CREATE TABLE IF NOT EXISTS {table} {on} AS {local(table)}"
                f" ENGINE = Distributed('{self._name}', currentDatabase(), {local(table)},"
                f" cityHash64({'id' if table == ENDS else 'node'}))"
            )
        elif found := _CREATE_VIEW.match(sql):
            view, table, select = found.groups()
            # columns are called by the table's name, too
            select = _FROM.sub(lambda f: f"{f[1]} {local(f[2])}{f[3] or f' AS {f[2]}'}", select)
            yield (
                f"CREATE MATERIALIZED VIEW IF NOT EXISTS {view} {on} TO {local(table)} AS {select}"
            )
        elif found := _DROP.match(sql):
            yield f"DROP TABLE IF EXISTS {found[1]} {on} SYNC"
            if found[1] in TABLES:
                yield f"DROP TABLE IF EXISTS {local(found[1])} {on} SYNC"
        elif found := _ALTER.match(sql):
            table, change = found.groups()
            change = change.replace("non_replicated_deduplication", "replicated_deduplication")
            yield f"ALTER TABLE {local(table)} {on} {change}"
            if change.startswith("ADD COLUMN"):
                yield f"ALTER TABLE {table} {on} {change}"
        else:
            yield sql

    def keep(self, retention: Retention) -> Iterator[str]:
        """Statements that make the servers apply a retention: nobody else knows all their parts."""
        for table, seconds in retention.seconds.items():
            at = "time" if table == ddl.TABLE else "bucket"
            yield f"ALTER TABLE {table} MODIFY SETTING ttl_only_drop_parts = 1"
            yield (
                f"ALTER TABLE {table} MODIFY TTL toDateTime({at}) + INTERVAL {seconds} SECOND"
                " SETTINGS materialize_ttl_after_modify = 0"
            )
