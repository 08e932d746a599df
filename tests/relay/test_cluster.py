"""The statements for a cluster of servers. There is none here: the engine parses them, no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.store import Store, StoreError, ddl
from relay.store.cluster import READ_LOCALLY, TABLES, OnCluster, local
from relay.store.migrations import VERSION, prepare
from relay.store.retention import Retention
from relay.store.rollup import ENDS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(f"chdb://{tmp_path_factory.mktemp('cluster') / 'store'}")
    yield store
    store.close()


class Recorder:
    """A server's client that notes statements; its tables have the columns of ``have``."""

    def __init__(self, comment: str | None, have: list[str]) -> None:
        self.said: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self._comment, self._have = comment, have

    def command(self, sql: str, settings: dict[str, Any] | None = None) -> str:
        assert settings is None
        self.said.append(sql)
        return ""

    def query(self, sql: str, parameters: dict[str, Any]) -> Any:
        self.asked.append(parameters)
        rows = [[name] for name in self._have]
        if "comment" in sql:
            rows = [] if self._comment is None else [[self._comment]]
        return type("Result", (), {"result_rows": rows})


def statements(comment: str | None = None, have: list[str] = ddl.NAMES) -> list[str]:
    client = Recorder(comment, have)
    servers = OnCluster(client, "prod")  # type: ignore[arg-type]
    prepare(servers, "http://x", 10_000)
    for statement in servers.keep(Retention.parse("flows=3d,1m=30d,1h=1y")):
        servers.command(statement)
    assert {"table": "flows_local"} in client.asked
    return client.said


def test_the_engine_understands_every_statement(store: Store) -> None:
    said = statements() + statements(ddl.mark(VERSION), ddl.NAMES[:-1])
    for statement in said:
        tree = str(store._writer.command(f"EXPLAIN AST {statement}"))
        assert tree.startswith(("CreateQuery", "AlterQuery", "DropQuery")), statement
    assert store._writer.command("SELECT 1", settings=READ_LOCALLY) == 1


def test_every_table_is_replicated_and_distributed() -> None:
    said = statements()
    assert all("ON CLUSTER 'prod'" in statement for statement in said)
    made = [s for s in said if s.startswith("CREATE TABLE")]
    for table in TABLES:
        (replicated,) = [s for s in made if re.match(rf"CREATE TABLE .* {local(table)} ON", s)]
        kind = {ddl.TABLE: "", ENDS: "Replacing"}.get(table, "Aggregating")
        assert f"Replicated{kind}MergeTree('/clickhouse/tables/{{shard}}/" in replicated
        assert ("'{replica}', last)" if table == ENDS else "'{replica}')") in replicated
        assert " replicated_deduplication_window = 10000" in replicated
        assert "non_replicated" not in replicated
        (distributed,) = [s for s in made if re.match(rf"CREATE TABLE .* {table} ON", s)]
        key = "id" if table == ENDS else "node"
        assert f"Distributed('prod', currentDatabase(), {local(table)}, cityHash64({key}))" in (
            distributed
        )
        assert f"`{key}`" in replicated
        assert any(s.startswith(f"ALTER TABLE {local(table)} ") and "MODIFY TTL" in s for s in said)
    views = [s for s in said if "MATERIALIZED VIEW" in s]
    assert len(views) == 4
    for view in views:
        assert not re.search(rf"\b(TO|FROM) ({'|'.join(TABLES)})\b", view)


def test_views_find_the_columns_of_local_tables(store: Store) -> None:
    for table in TABLES:
        store._writer.command(f"CREATE TABLE {local(table)} AS {table}")
    for view in [s for s in statements() if "MATERIALIZED VIEW" in s]:
        there = view.replace("VIEW IF NOT EXISTS ", "VIEW of_").replace(" ON CLUSTER 'prod'", "")
        store._writer.command(there)


def test_a_new_column_goes_into_both_tables() -> None:
    said = statements(ddl.mark(VERSION), ddl.NAMES[:-1])
    added = [s for s in said if "ADD COLUMN" in s]
    assert [s.split()[2] for s in added] == ["flows_local", "flows"]
    assert not any(s.startswith(("CREATE", "DROP")) for s in said)


def test_a_cluster_needs_a_server_and_a_name() -> None:
    found = CliRunner().invoke(main, ["--cluster", "prod"])
    assert found.exit_code == 2 and "--cluster needs a ClickHouse server" in found.output
    with pytest.raises(StoreError, match="--cluster needs a ClickHouse server"):
        Store.open("chdb:///x", cluster="prod")
    with pytest.raises(StoreError, match="leave it out, a cluster keeps by --retention"):
        Store.open("http://x", cluster="prod", max_disk="1GB")
    with pytest.raises(StoreError, match="is no name of a cluster"):
        OnCluster(None, "a'b")  # type: ignore[arg-type]
