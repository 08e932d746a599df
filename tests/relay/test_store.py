from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowobs.batch import Endpoint
from flowobs.schema import EndpointKind, Kind
from relay.store import QueryTimeout, Store, StoreError
from relay.store.errors import explain
from relay.store.migrations import VERSION
from relay.store.retention import Retention
from relay.store.rollup import end_id
from tests.flow_factory import new_table, random_batch


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store.open(f"chdb://{tmp_path_factory.mktemp('store') / 'made' / 'here'}")
    yield opened
    opened.close()


@pytest.fixture
def empty(store: Store) -> Store:
    store._writer.command("TRUNCATE TABLE flows")
    return store


def test_the_same_token_stores_once_and_another_one_again(empty):
    batch = random_batch(10, new_table())
    empty.insert([batch], "a/1/1")
    empty.insert([batch], "a/1/1")
    assert empty.stats().rows == 10
    empty.insert([batch], "a/1/2")
    assert empty.stats().rows == 20


def test_an_insert_across_days_is_stored_once_too(empty):
    batch = random_batch(10, new_table())
    batch.columns["time"][::2] -= 86400 * 10**9
    for _ in range(2):
        empty.insert([batch], "a/1/days")
    assert empty.stats().rows == 10


def test_stats_tell_what_is_there(empty):
    stats = empty.stats()
    assert (stats.rows, stats.oldest, stats.newest) == (0, None, None)
    batch = random_batch(10, new_table())
    empty.insert([batch], "a/1/stats")
    stats = empty.stats()
    times = batch.columns["time"]
    assert (stats.rows, stats.oldest, stats.newest) == (10, times.min(), times.max())
    assert set(stats.bytes) == {"flows", "flows_1m", "flows_1h", "flows_ends"}
    assert all(stats.bytes.values())
    assert stats.engine.startswith("ClickHouse ")


def test_readers_take_parameters_and_stream(empty):
    batch = random_batch(1000, new_table())
    empty.insert([batch], "a/1/read")
    reader = empty.reader()
    port = int(batch.columns["dst_port"][0])
    sql = "SELECT dst_port, src_ip FROM flows WHERE dst_port = {port:UInt16}"
    found = reader.query(sql, {"port": port})
    assert set(found["dst_port"]) == {port}
    assert batch.columns["src_ip"][0].tobytes() in found["src_ip"]
    none = reader.query("SELECT time FROM flows WHERE dst_port > 65535")
    assert (none.rows, none["time"]) == (0, [])
    assert sum(t.rows for t in reader.stream("SELECT time FROM flows")) == 1000


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO flows (kind) VALUES (1)",
        "DROP TABLE flows",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT 1 SETTINGS max_execution_time = 1000",
    ],
)
def test_readers_cannot_write_or_look_elsewhere(store, sql):
    with pytest.raises(StoreError, match=r"(?i)readonly"):
        store.reader(size=1).query(sql)


def test_a_query_may_only_take_so_long_and_so_much(store):
    reader = store.reader(size=1, max_seconds=1)
    endless = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1"
    with pytest.raises(QueryTimeout, match="shorter time range"):
        reader.query(endless)
    with pytest.raises(QueryTimeout, match="too much memory"):
        store.reader(size=1, max_seconds=60).query(
            "SELECT length(groupArray(number)) FROM numbers(1000000000)"
        )
    assert reader.query("SELECT 1 AS one")["one"] == [1]


def test_more_queries_than_allowed_wait_their_turn(store):
    reader = store.reader(size=1)
    reader._patience = 0.1
    with (
        reader._client(),
        pytest.raises(StoreError, match="too many queries"),
    ):
        reader.query("SELECT 1")
    assert reader.query("SELECT 1 AS one").rows == 1


def test_the_table_is_what_the_documentation_says(store):
    statement = store._writer.query("SHOW CREATE TABLE flows").result_rows[0][0]
    for part in (
        "PARTITION BY toDate(time)",
        "ORDER BY time",
        "non_replicated_deduplication_window = 10000",
        f"COMMENT 'flowobs schema {VERSION}'",
        "`src_namespace` LowCardinality(String)",
    ):
        assert part in statement


def test_the_engine_keeps_to_its_limits(store):
    settings = dict(
        store._writer.query(
            "SELECT name, value FROM system.server_settings WHERE name IN"
            " ('max_server_memory_usage', 'mark_cache_size', 'background_pool_size')"
        ).result_rows
    )
    assert settings == {
        "max_server_memory_usage": str(1024 * 1024 * 1024),
        "mark_cache_size": str(64 * 1024 * 1024),
        "background_pool_size": "2",
    }


ROOT = Path(__file__).parents[2]

# -- each of these needs a process of its own: one process opens one folder


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


OPEN = """
import sys
from relay.store import Store, StoreError
try:
    store = Store.open(sys.argv[1], retention=sys.argv[2])
except (StoreError, ValueError) as error:
    print("refused:", error)
else:
    print(store._writer.command("SHOW CREATE TABLE flows"), store.stats())
    {more}
    store.close()
"""


def opened(url: str, retention: str = "3d", more: str = "") -> str:
    return python(OPEN.replace("{more}", more), url, retention)


def test_a_store_in_use_is_refused_by_name(store):
    said = opened(store.url)
    assert "in use by another process (pid " in said
    assert "--store" in said


def test_a_store_keeps_its_records(tmp_path):
    url = f"chdb://{tmp_path}/store"
    insert = (
        "from tests.flow_factory import *; store.insert([random_batch(5, new_table())], 'a/1/1')"
    )
    opened(url, more=insert)
    said = opened(url, "12h", more=insert)
    assert "rows=5" in said  # the token was remembered


def test_a_store_of_another_version_is_refused(tmp_path):
    url = f"chdb://{tmp_path}/store"
    change = "store._writer.command(\"ALTER TABLE flows MODIFY COMMENT '{}'\")"
    opened(url, more=change.format("flowobs schema 99"))
    said = opened(url, more="")
    assert "refused: the store" in said
    assert "schema version 99" in said


def test_a_table_of_somebody_else_is_refused(tmp_path):
    url = f"chdb://{tmp_path}/store"
    opened(url, more="store._writer.command(\"ALTER TABLE flows MODIFY COMMENT 'mine'\")")
    assert "that flowobs did not make" in opened(url)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("chdb:///dev/null/store", "cannot be used (Not a directory)"),
        ("chdb:///proc/store", "cannot be used"),
        ("http://127.0.0.1:1/flowobs", "does not answer"),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_sentence(url, text):
    with pytest.raises(StoreError) as caught:
        Store.open(url)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["chdb://relative/path", "mysql://host/db"])
def test_a_url_of_no_store_is_refused(url):
    with pytest.raises(ValueError, match="must be chdb:///absolute/folder"):
        Store.open(url)


def test_one_process_opens_one_folder(store, tmp_path):
    with pytest.raises(StoreError, match="another store open"):
        Store.open(f"chdb://{tmp_path}/other")


@pytest.mark.parametrize("text", ["", "3", "d", "0d", "3 days", "-1d"])
def test_a_retention_is_a_length_of_time(text):
    with pytest.raises(ValueError, match="like 3d"):
        Retention.parse(text)


def test_retentions_have_units():
    texts = ("90s", "5m", "12h", "3d", "2w")
    assert [Retention.parse(t).seconds["flows"] for t in texts] == [90, 300, 43200, 259200, 1209600]


def test_a_full_disk_is_said_plainly():
    error = OSError("Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space")
    assert "is full" in str(explain(error, "chdb:///x"))


CLOSE = """
import sys, threading, time
from relay.store import Store, StoreError
from tests.busy import within
store = Store.open(sys.argv[1])
reader = store.reader()
said = []
def run():
    try:
        reader.query("SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1")
    except StoreError as error:
        said.append(str(error))
threads = [threading.Thread(target=run) for _ in range(3)]
for t in threads: t.start()
time.sleep(0.5)
with within(3):
    store.close()
    for t in threads: t.join()
print(*said, sep="|")
"""


def test_close_stops_running_queries(tmp_path):
    said = python(CLOSE, f"chdb://{tmp_path}/store").strip().split("|")
    assert len(said) == 3
    assert all("shutting down" in s for s in said)


FULL = """
import sys
from relay.store import Store, StoreError
from tests.flow_factory import new_table, random_batch
store = Store.open(sys.argv[1])
table = new_table()
try:
    for seed in range(1000):
        store.insert([random_batch(10_000, table, seed)], f"a/1/{seed}")
except StoreError as error:
    print(error)
store.close()
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, needs root")
def test_a_full_disk_is_one_sentence(tmp_path):
    mount = 'mount -t tmpfs -o size=60m none "$1" && exec "$2" -c "$3" "chdb://$1/store"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, FULL],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert "is full: free space, or keep less" in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_every_end_of_a_record_is_among_the_ends(store):
    """A container's kind has the number of kind "lost", which is no flow."""
    table = new_table()
    batch = random_batch(100, table, kind=int(Kind.update))
    for side in ("src", "dst"):
        ends = [table.id(Endpoint(kind, name=side)) for kind in EndpointKind]
        batch.columns[f"{side}_endpoint"][: len(ends)] = ends
    store.insert([batch], "ends")
    query = store.reader().query
    for side in ("src", "dst"):
        found = query(
            f"SELECT uniqExact({side}_kind) >= {len(EndpointKind)} AS all_kinds,"
            f" countIf({end_id(side)} NOT IN (SELECT id FROM flows_ends)) AS unknown"
            f" FROM flows WHERE kind != {Kind.lost:d}"
        )
        assert (found["all_kinds"], found["unknown"]) == ([1], [0])
