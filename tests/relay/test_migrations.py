"""Stores of earlier versions become today's; those of later ones are left alone."""

from __future__ import annotations

import json
import time

import pytest

from flowobs import schema
from flowobs.query import parse
from relay.http.parameters import MapQuery
from relay.http.queries import Large, Session
from relay.http.service_map import build
from relay.store import StoreError, ddl
from relay.store.backfill import OLD
from relay.store.ends import Ends
from relay.store.engine import Limits, open_engine
from relay.store.migrations import VERSION, prepare
from relay.store.rollup import MINUTES, create, since_of
from relay.store.store import Store
from tests.relay.flows import flows
from tests.relay.version2 import rollup

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
        for table in ("flows_1m", "flows_1h"):  # of the records that were there, too
            assert query(f"SELECT sum(records) AS n FROM {table}")["n"] == [110]
        said = query(
            "SELECT name, comment, create_table_query AS q FROM system.tables"
            " WHERE database = currentDatabase() ORDER BY name"
        )
        tables = dict(zip(said["name"], zip(said["comment"], said["q"], strict=True), strict=True))
        assert tables["flows"][0] == f"flowobs schema {VERSION}"
        assert "TTL" not in tables["flows"][1]
        assert since_of(tables["flows_1h"][0]) == 0
        names = query(
            "SELECT name FROM system.columns WHERE table = 'flows'"
            " AND database = currentDatabase() ORDER BY position"
        )["name"]
        assert names == ddl.NAMES
    finally:
        store.close()
    store = Store.open(url)  # and again: nothing is left to do
    assert store.reader().query("SELECT count() AS n FROM flows")["n"] == [110]
    store.close()


def test_a_store_of_version_2(tmp_path):
    """What only its rollups know goes over; what records know, too, is made of records."""
    url = f"chdb://{tmp_path}/store"
    hour = time.time_ns() // (3600 * 10**9) * 3600
    minutes = f"SELECT toDateTime({hour}, 'UTC') - 60 * number AS bucket FROM numbers(1, 2880)"
    hours = f"SELECT toDateTime({hour}, 'UTC') - 3600 * number AS bucket FROM numbers(1, 720)"
    prepared(
        url,
        ddl.create_table(2),
        # two hours and a half of records
        "INSERT INTO flows (time, kind, reporter, proto, src_ip, dst_ip, dst_port, packets)"
        f" SELECT toDateTime64({hour}, 9, 'UTC') - 60 * number, 2, 1, 6, toIPv6('10.0.0.1'),"
        " toIPv6('10.0.0.3'), 81, 7 FROM numbers(150)",
        *rollup("flows_1m", minutes),
        *rollup("flows_1h", hours),
    )
    for _ in range(2):  # and again: nothing is left to do
        store = Store.open(url, retention="flows=3d,1m=30d,1h=1y")
        try:
            query = store.reader().query
            tables = query("SELECT name FROM system.tables WHERE database = currentDatabase()")
            assert not [name for name in tables["name"] if name.endswith(OLD)]
            # before the first whole hour of records: from the old rollups
            for table, kept in (("flows_1m", 2880 - 120), ("flows_1h", 720 - 2)):
                found = query(f"SELECT port, sum(records) AS n FROM {table} GROUP BY port")
                counted = dict(zip(found["port"], found["n"], strict=True))
                assert counted == {80: kept, 81: 121}

            day = MapQuery(parse("ns:shop"), (hour - 40 * 86400) * 10**9, hour * 10**9)
            (edge,) = json.loads(
                build(Session(store.reader(), store.plan, Ends(), Large(store.trim)), day)
            )["edges"]
            assert (edge["source"], edge["destination"]) == ("shop/web", "shop/api")
            assert (edge["flows"], edge["packets"], edge["rtt_ms"]) == (718, 7180, None)
        finally:
            store.close()


def test_a_store_of_version_3_gets_the_views_of_today(tmp_path):
    url = f"chdb://{tmp_path}/store"
    Store.open(url).close()
    prepared(
        url,
        "DROP VIEW flows_1m_view",
        "DROP VIEW flows_1h_view",  # a migration may have been cut short here
        "CREATE MATERIALIZED VIEW flows_1m_view TO flows_1m AS"
        " SELECT toStartOfMinute(time) AS bucket FROM flows",
        "ALTER TABLE flows MODIFY COMMENT 'flowobs schema 3'",
    )
    store = Store.open(url)
    try:
        store.insert([flows(10)], "a/1/1")
        for table in ("flows_1m", "flows_1h"):
            assert store.reader().query(f"SELECT sum(records) AS n FROM {table}")["n"] == [10]
    finally:
        store.close()


def test_a_migration_of_version_2_cut_short_is_done_again(tmp_path):
    url = f"chdb://{tmp_path}/store"
    rows = "SELECT toDateTime('2026-01-01 00:00:00', 'UTC') AS bucket"
    renamed = [s.replace("flows_1m", "flows_1m_v2") for s in rollup("flows_1m", rows)]
    prepared(url, ddl.create_table(2), *renamed, *create(MINUTES, 0, 10), *rollup("flows_1h", rows))
    store = Store.open(url, retention="flows=3d,1m=9y,1h=9y")
    query = store.reader().query
    for table in ("flows_1m", "flows_1h"):
        assert query(f"SELECT sum(records) AS n FROM {table}")["n"] == [1]
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
