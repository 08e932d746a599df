"""What is dropped when: by time, by size, without rewriting anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.store import Store, ddl
from relay.store.retention import Part, Retention, doomed
from relay.store.rollup import TABLES
from tests.relay.flows import flows

DAY = 86_400


def test_retentions_are_by_table():
    assert Retention.parse("12h").seconds == {
        "flows": 43_200, "flows_1m": 30 * DAY, "flows_1h": 365 * DAY, "flows_ends": 366 * DAY,
    }  # fmt: skip
    assert Retention.parse("flows=1d, 1m=2w,1h=2y").seconds == {
        "flows": DAY, "flows_1m": 14 * DAY, "flows_1h": 730 * DAY, "flows_ends": 731 * DAY,
    }  # fmt: skip
    assert Retention.parse("3d", "20GB").max_bytes == 20 * 10**9
    assert Retention.parse("3d", "512 M").max_bytes == 512 * 10**6
    assert Retention.parse("3d").text == "3d"
    assert Retention.parse("3d", "20GB").text == "3d, at most 20GB"  # as status shows it


@pytest.mark.parametrize("text", ["2m=3d", "flows=", "=3d", "flows=3d,", "3d,flows=4d"])
def test_what_is_no_retention(text):
    with pytest.raises(ValueError, match="write it like"):
        Retention.parse(text)


@pytest.mark.parametrize("text", ["", "0GB", "much", "1PB", "-1G", "20"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="write it like 500MB or 20GB"):
        Retention.parse("3d", text)


def test_size_takes_records_first_and_never_the_newest_part():
    parts = [
        Part("flows_1m", "m1", 10, 1000),
        Part("flows", "f2", 50, 1010),
        Part("flows", "f1", 50, 1005),
        Part("flows", "f3", 50, 1020),
        Part("flows_1m", "m2", 10, 1020),
        Part("flows", "f0", 50, 1),
    ]

    def names(max_bytes: int | None, passing: int = 0) -> list[tuple[str, str]]:
        retention = Retention({"flows": 100, "flows_1m": 1000, "flows_1h": 1000}, max_bytes)
        return [(p.name, why) for p, why in doomed(parts, retention, 1025, passing)]

    assert names(None) == [("f0", "time")]
    assert names(170) == [("f0", "time")]
    assert names(169) == [("f0", "time"), ("f1", "size")]
    assert names(1) == [("f0", "time"), ("f1", "size"), ("f2", "size"), ("m1", "size")]
    # what is on disk for a while takes no rollups away
    assert names(170, 1) == [("f0", "time"), ("f1", "size")]
    assert names(170, 1000) == [("f0", "time"), ("f1", "size"), ("f2", "size")]


def test_a_size_is_kept_in_small_steps(tmp_path: Path) -> None:
    """Two parts that together are more than a twentieth of the size are never merged."""
    url = f"chdb://{tmp_path / 'store'}"
    left = []
    for size in ("400KB", None):
        store = Store.open(url, max_disk=size)
        if size:
            for number in range(2):
                store.insert([flows(2000)], f"{number}")
        for table in TABLES:
            definition = str(store._writer.command(f"SHOW CREATE TABLE {table}"))
            assert all(setting in definition for setting in ddl.parts(400_000 if size else None))
        store._writer.command("OPTIMIZE TABLE flows")
        parts = store.reader().query(
            "SELECT count() AS n, min(bytes_on_disk) AS least FROM system.parts"
            " WHERE active AND table = 'flows'"
        )
        left.append(parts["n"][0])
        assert parts["least"][0] > 10_000
        store.close()
    assert left == [2, 1]


def test_what_merges_leave_behind_is_counted(tmp_path: Path) -> None:
    store = Store.open(f"chdb://{tmp_path / 'store'}")
    for number, age in enumerate((DAY, 0, 0)):
        store.insert([flows(2000, start_ns=time.time_ns() - age * 10**9)], f"{number}")
    for table in TABLES:  # however slow the machine is
        store._writer.command(f"ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 600")
    store._writer.command("OPTIMIZE TABLE flows FINAL")
    store._writer.command("SYSTEM STOP MERGES")
    parts, passing = store._sweeper._parts()
    replaced = store.reader().query(
        "SELECT sum(bytes_on_disk) AS n FROM system.parts WHERE NOT active AND rows > 0"
    )["n"][0]
    assert passing > replaced > 10_000
    seconds = dict(store._sweeper.retention.seconds)
    size = sum(part.bytes for part in parts) + passing
    for max_bytes, left in ((size, [6000, 6000, 6000]), (size - 1, [4000, 6000, 6000])):
        store._sweeper.retention = Retention(seconds, max_bytes)
        store.sweep()
        assert counts(store) == left
    store.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store.open(f"chdb://{tmp_path_factory.mktemp('kept') / 'store'}", retention="2d")
    yield opened
    opened.close()


def add(store: Store, age_s: int, rows: int = 100) -> None:
    batch = flows(rows, start_ns=time.time_ns() - age_s * 10**9)
    store.insert([batch], f"{age_s}")


def counts(store: Store) -> list[int]:
    query = store.reader().query
    tables = ("flows", "flows_1m", "flows_1h")
    sums = [query(f"SELECT sum(records) AS n FROM {table}")["n"][0] for table in tables[1:]]
    return [query("SELECT count() AS n FROM flows")["n"][0], *sums]


def test_old_parts_are_dropped_without_a_mutation(store):
    for days in (0, 1, 3, 31):
        add(store, days * DAY)
    assert counts(store) == [400, 400, 400]
    assert store.sweep() > 0
    assert counts(store) == [200, 300, 400]
    assert store.dropped_early() == []  # all of it was past its time
    assert store.sweep() == 0
    mutations = store.reader().query("SELECT count() AS n FROM system.mutations")
    assert mutations["n"] == [0]
    now = time.time_ns()
    half_past = (now // 10**9 // 3600 - 20 * 24) * 3600 + 1800  # no whole hour begins there
    assert store.plan(half_past * 10**9, now).slices[0].table == "flows_1m"


def test_over_its_size_the_oldest_goes_and_the_plan_knows(store, caplog):
    store._sweeper.retention = Retention.parse("2d", "1KB")
    add(store, DAY + 3600)
    store.sweep()
    # one line, however many parts
    assert ["table=flows " in line for line in caplog.messages].count(True) == 1
    rows, *_ = counts(store)
    assert rows == 100  # the newest part
    assert store._sweeper.complete()["flows"] > time.time_ns() - 1.1 * DAY * 10**9
    early = {table: kept for table, *kept in store.dropped_early()}
    assert early["flows"] == [store._sweeper.complete()["flows"], 2 * DAY]
    store._sweeper.retention = Retention.parse("12h")  # what was dropped would be gone by now
    assert "flows" not in [table for table, *_ in store.dropped_early()]
    assert store.plan(time.time_ns() - 30 * 3600 * 10**9, time.time_ns()).table == "flows_1h"


def test_parts_that_are_merged_while_it_looks_are_dropped_the_next_time(store, monkeypatch):
    store._sweeper.retention = Retention.parse("2d")
    start = (time.time_ns() // 10**9 - 5 * DAY) * 10**9
    for token in ("left", "right"):
        store.insert([flows(100, start_ns=start)], token)
    listed = store._sweeper._parts()
    store._writer.command("OPTIMIZE TABLE flows FINAL")
    before = counts(store)
    with monkeypatch.context() as patched:
        patched.setattr(store._sweeper, "_parts", lambda: listed)
        store.sweep()
    assert counts(store) == before
    store.sweep()
    assert counts(store)[0] == before[0] - 200


def test_a_part_without_rows_is_none(store):
    store._writer.command("ALTER TABLE flows DELETE WHERE 1 SETTINGS mutations_sync = 1")
    store.sweep()
    assert store.begin is None
