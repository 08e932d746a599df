from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowobs import schema
from flowobs.batch import FlowBatch
from flowobs.rows import row_dicts
from flowobs.wire import Decoder, Encoder, encode, parse, varint
from relay.store import Store
from relay.store.ddl import COLUMN_LIST
from relay.store.native import _index_type, to_native
from tests.flow_factory import batches, new_table, random_batch


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store.open(f"chdb://{tmp_path_factory.mktemp('native') / 'store'}")
    yield opened
    opened.close()


_tokens = count()


def through(store: Store, sent: list[FlowBatch]) -> list[dict]:
    store._writer.command("TRUNCATE TABLE flows")
    store.insert(sent, f"native/{next(_tokens)}")
    table = store._status.query(f"SELECT {COLUMN_LIST} FROM flows")
    return list(row_dicts(table.columns, table.rows))


def by_time(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=str)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sent=st.lists(batches(), min_size=1, max_size=3))
def test_any_records_come_out_of_the_engine_as_they_went_in(store, sent):
    assert by_time(through(store, sent)) == by_time([r for b in sent for r in b.rows()])


def test_columns_that_are_zero_throughout_are_left_out(store, tmp_path):
    table = new_table()
    sent = [FlowBatch.zeros(3, table), random_batch(3, table)]
    sent[0].columns["time"] = sent[1].columns["time"] + 1
    decoder = Decoder(table)
    for message in Encoder(table).pending():
        decoder.dictionary(message)
    came = [decoder.batch(parse(encode(batch, 1))) for batch in sent]
    assert len(b"".join(to_native(came[:1]))) < 100  # nothing but the times
    assert by_time(through(store, came)) == by_time([r for b in sent for r in b.rows()])
    file = tmp_path / "block"
    file.write_bytes(b"".join(to_native(came[:1])))
    store.insert_file(file, f"native/{next(_tokens)}")
    assert store._status.query("SELECT count() AS n, sum(packets = 0) AS z FROM flows").columns == {
        "n": [9], "z": [3 + 3 + sum(int(p == 0) for p in sent[1]["packets"])]
    }  # fmt: skip


def test_dictionaries_beyond_one_byte_come_out_too(store):
    batch = random_batch(3000, new_table(), names=700)
    assert by_time(through(store, [batch])) == by_time(list(batch.rows()))


def test_numbers_without_a_name_survive(store):
    batch = FlowBatch.zeros(1, new_table())
    batch.columns["kind"][:] = 250
    batch.columns["proto"][:] = 199
    batch.columns["time"][:] = random_batch(1, new_table()).columns["time"]
    (row,) = through(store, [batch])
    assert (row["kind"], row["proto"]) == ("250", "199")
    assert row == next(batch.rows())


def test_batches_of_one_table_share_a_block_and_empty_ones_leave_no_trace():
    table = new_table()
    full, empty = random_batch(3, table), FlowBatch.zeros(0, table)
    assert to_native([empty]) == []
    columns = len(schema.COLUMNS)
    joined = b"".join(to_native([full, empty, full]))
    assert joined.startswith(varint(columns) + varint(6))
    assert joined.count(b"\x04time") == 1
    other = random_batch(3, new_table())
    assert b"".join(to_native([full, other])).count(b"\x04time") == 2


def test_small_numbers_take_small_types():
    assert varint(0) == b"\0"
    assert varint(300) == b"\xac\x02"
    assert [_index_type(n).itemsize for n in (1, 256, 257, 65536, 65537)] == [1, 1, 2, 2, 4]


def test_the_temporary_folder_is_left_clean(store, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store.insert([random_batch(3, new_table())], "native/clean")
    assert list(tmp_path.iterdir()) == []
