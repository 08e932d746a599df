"""Stores of earlier versions become today's; those of later ones are left alone."""

from __future__ import annotations

import math
import time

import pytest

from flowobs import schema
from relay.store import StoreError, ddl
from relay.store.engine import Limits, open_engine
from relay.store.migrations import VERSION, prepare
from relay.store.rollup import since_of
from relay.store.store import Store
from tests.relay.flows import flows

COLUMNS = ",\n  ".join(ddl.column(c) for c in schema.COLUMNS if c.name not in ("src_node", "time"))
VERSION_1 = f"""CREATE TABLE flows (
  `time` DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)), {COLUMNS}
) ENGINE = MergeTree PARTITION BY toDate(time) ORDER BY time
TTL toDateTime(time) + toIntervalSecond(259200)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'flowobs schema 1'"""
"""As the first release made it, but for a column that came later."""


def prepared(url: str, *statements: str) -> None:
    engine = open_engine(url, Limits())
    client = engine.client({})
    try:
        for statement in statements:
            client.command(statement)
    finally:
        client.close()
        engine.close()


def test_a_store_of_version_1(tmp_path):
    url = f"chdb://{tmp_path}/store"
    prepared(
        url,
        VERSION_1,
        "INSERT INTO flows (time, kind, src_port) SELECT now64(9, 'UTC') - number, 2, number"
        " FROM numbers(100)",
    )
    store = Store.open(url)
    try:
        store.insert([flows(10)], "a/1/1")
        query = store.reader().query
        assert query("SELECT count() AS n, sum(src_port < 100) AS old FROM flows").columns == {
            "n": [110], "old": [100]
        }  # fmt: skip
        assert query("SELECT sum(records) AS n FROM flows_1h")["n"] == [10]
        said = query(
            "SELECT name, comment, create_table_query AS q FROM system.tables"
            " WHERE database = currentDatabase() ORDER BY name"
        )
        tables = dict(zip(said["name"], zip(said["comment"], said["q"], strict=True), strict=True))
        assert tables["flows"][0] == f"flowobs schema {VERSION}"
        assert "TTL" not in tables["flows"][1]
        since = since_of(tables["flows_1h"][0])
        assert since == math.ceil(time.time() / 3600) * 3600 * 10**9
        names = query(
            "SELECT name FROM system.columns WHERE table = 'flows'"
            " AND database = currentDatabase() ORDER BY position"
        )["name"]
        assert names == ddl.NAMES
        now = time.time_ns()
        assert store.plan(now - 3600 * 10**9, now).table == "flows"  # the rollups lack its start
    finally:
        store.close()
    store = Store.open(url)  # and again: nothing is left to do
    assert store.reader().query("SELECT count() AS n FROM flows")["n"] == [110]
    store.close()


def test_a_migration_cut_short_is_done_again(tmp_path):
    url = f"chdb://{tmp_path}/store"
    prepared(url, VERSION_1, "CREATE TABLE flows_1m (a UInt8) ENGINE = Memory")
    store = Store.open(url)
    store.insert([flows(10)], "a/1/1")
    assert store.reader().query("SELECT sum(records) AS n FROM flows_1m")["n"] == [10]
    store.close()


def test_making_a_store_cut_short_is_done_again(tmp_path):
    url = f"chdb://{tmp_path}/store"
    prepared(url, ddl.create_table(0))
    store = Store.open(url)
    store.insert([flows(10)], "a/1/1")
    assert store.reader().query("SELECT sum(records) AS n FROM flows_1h")["n"] == [10]
    store.close()


def test_a_newer_store_is_refused_and_left_alone(tmp_path):
    url = f"chdb://{tmp_path}/store"
    prepared(url, ddl.create_table(VERSION + 1))
    with pytest.raises(StoreError, match=f"schema version {VERSION + 1}, this relay knows"):
        Store.open(url)
    engine = open_engine(url, Limits())
    client = engine.client({})
    assert client.query(
        "SELECT name FROM system.tables WHERE database = 'default'"
    ).result_rows == [("flows",)]
    with pytest.raises(StoreError):
        prepare(client, url, 1)
    client.close()
    engine.close()
