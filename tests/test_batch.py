from __future__ import annotations

import threading

import numpy as np
import pytest

from flowobs.batch import (
    RECORD_TYPES,
    Endpoint,
    Endpoints,
    FlowBatch,
    Strings,
    is_nothing,
    nothing,
    writable,
)
from tests.flow_factory import new_table, random_batch


def test_equal_strings_share_an_id():
    strings = Strings()
    assert strings.id("") == 0
    assert strings.id("a") == strings.id("a") == 1
    assert strings.find("b") is None
    assert len(strings) == 2


def test_an_endpoints_attributes_are_one_take_away():
    table = new_table()
    web, api = Endpoint(1, namespace="shop", name="web"), Endpoint(1, namespace="shop", name="api")
    batch = FlowBatch.zeros(3, table)
    batch.columns["src_endpoint"][:] = [table.id(web), table.id(api), 0]

    assert batch.strings("src_name") == ["web", "api", ""]
    assert batch["src_kind"].tolist() == [1, 1, 0]
    assert table[table.id(web)] == web
    with pytest.raises(KeyError):
        batch["src_nonsense"]


def test_endpoint_columns_follow_the_table_as_it_grows():
    table = new_table()
    for i in range(1000):
        table.id(Endpoint(i % 256, name=f"n{i}"))
        if i % 7 == 0:
            assert len(table.column("name")) == len(table)
    names = [table.strings.values[i] for i in table.column("name").tolist()]
    assert names == ["", *(f"n{i}" for i in range(1000))]
    assert table.column("kind").tolist() == [0, *(i % 256 for i in range(1000))]


def test_endpoint_columns_may_be_read_while_the_table_grows():
    table = new_table()
    wrong: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            ids = table.column("name")
            wrong.extend(i for i in range(1, len(ids)) if table.strings.values[ids[i]] != f"n{i}")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for i in range(1, 2000):
        table.id(Endpoint(name=f"n{i}"))
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong


def test_concat_and_select_keep_rows_in_order():
    table = new_table()
    a, b = random_batch(3, table, 1), random_batch(4, table, 2)
    both = FlowBatch.concat([a, b])
    assert list(both.rows()) == [*a.rows(), *b.rows()]
    assert list(both.select(np.arange(7) % 2 == 1).rows()) == list(both.rows())[1::2]


def test_batches_of_different_tables_cannot_be_joined():
    with pytest.raises(ValueError, match="different endpoint tables"):
        FlowBatch.concat([random_batch(1, new_table()), random_batch(1, new_table())])


def test_columns_of_nothing_are_joined_without_a_copy():
    table = Endpoints(Strings())
    batches = []
    for rows in (3, 4):
        batch = FlowBatch.zeros(rows, table)
        batch.columns |= {name: nothing(type, rows) for name, type in RECORD_TYPES.items()}
        batch.columns["bytes"] = np.full(rows, rows, "<u8")
        batches.append(batch)
    joined = FlowBatch.concat(batches)
    assert joined["bytes"].tolist() == [3, 3, 3, 4, 4, 4, 4]
    assert joined["src_ip"].shape == (7, 16)
    zeros = FlowBatch.zeros(7, table)
    for name, column in joined.columns.items():
        assert is_nothing(column) == (name != "bytes")
        assert column.dtype == zeros[name].dtype
        assert column.shape == zeros[name].shape
        assert not column.flags.writeable or name == "bytes"
    one = FlowBatch.concat([joined, zeros])  # zero, but nobody knows
    assert not is_nothing(one["packets"])
    assert len(one) == 14


def test_a_shared_column_becomes_its_own_when_it_is_written_to():
    table = Endpoints(Strings())
    batch = FlowBatch.zeros(3, table, shared={"bytes", "virtual_ip"})
    other = FlowBatch.zeros(3, table, shared={"bytes"})
    with pytest.raises(ValueError, match="read-only"):
        batch["bytes"][1] = 7
    writable(batch.columns, "bytes")[1] = 7
    writable(batch.columns, "bytes")[2] = 8
    writable(batch.columns, "virtual_ip")[0] = 1
    assert batch["bytes"].tolist() == [0, 7, 8]
    assert batch["virtual_ip"].sum() == 16
    assert is_nothing(other["bytes"]) and not other["bytes"].any()


def test_nothing_has_no_limit():
    assert nothing("ip", 70_000).shape == (70_000, 16)
