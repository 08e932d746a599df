"""The mask and the SQL of a filter select the same rows of the real engine."""

import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowobs import schema
from flowobs.batch import Endpoint, Endpoints, FlowBatch, Strings
from flowobs.filters import And, Filter, Mask, Match, Not, Op, Or, Value, network, where
from flowobs.rows import ip_text
from relay.store import Reader, Store
from relay.store.ddl import TABLE

ROWS = 200
TEXTS = [
    "",
    "a",
    "ab",
    "a%b",
    "a_b",
    "a\\b",
    "a'b",
    "é",
    "ab\n",
    "a\tb",
    "web-0",
    "WEB-0",
    "{f0:String}",
    "*",
]
ADDRESSES = [bytes(10) + b"\xff\xff" + bytes([10, 0, 0, n]) for n in range(3)] + [bytes(16)]
NOW = time.time_ns()


def random_batch() -> FlowBatch:
    """Rows whose ``cookie`` is their number, from few values: filters hit often."""
    rng = np.random.default_rng(7)
    endpoints = Endpoints(Strings())
    texts = [endpoints.strings.id(t) for t in TEXTS]
    rows = [
        endpoints.id(Endpoint(int(rng.integers(0, 9)), *(str(t) for t in rng.choice(TEXTS, 9))))
        for _ in range(20)
    ]
    batch = FlowBatch.zeros(ROWS, endpoints)
    for column in schema.RECORD_COLUMNS:
        values = batch.columns[column.name]
        if column.type == "ip":
            values[:] = [np.frombuffer(ADDRESSES[i], "u1") for i in rng.integers(0, 4, ROWS)]
        elif column.type == "string":
            values[:] = rng.choice(texts, ROWS)
        else:
            values[:] = rng.integers(0, 4, ROWS)
    batch.columns["time"][:] = NOW - rng.integers(0, 4, ROWS)
    batch.columns["dst_cookie"][:] = np.uint64(2**64 - 1) - rng.integers(0, 3, ROWS).astype("u8")
    batch.columns["src_cookie"][:] = np.arange(ROWS)
    for name in schema.ENDPOINT_WIRE:
        batch.columns[name][:] = rng.choice(rows, ROWS)
    return batch


@pytest.fixture(scope="module")
def stored() -> Iterator[tuple[FlowBatch, Reader]]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"chdb://{Path(folder) / 'store'}")
        batch = random_batch()
        store.insert([batch], "once")
        yield batch, store.reader()
        store.close()


def matches() -> st.SearchStrategy[Filter]:
    return st.sampled_from(schema.COLUMNS).flatmap(matches_of)


def matches_of(column: schema.Column) -> st.SearchStrategy[Filter]:
    """Comparisons of one column by every operator that it has."""

    def each(op: Op, values: st.SearchStrategy[Value]) -> st.SearchStrategy[Filter]:
        return st.builds(Match, st.just(column.name), st.just(op), values)

    if column.type == "string":
        texts = st.sampled_from(TEXTS)
        return st.one_of(
            each(Op.eq, texts),
            each(Op.any_of, st.lists(texts, max_size=3).map(tuple)),
            each(Op.glob, st.text(st.sampled_from("ab%_\\'*?é\n\t"), max_size=4)),
            each(Op.contains, st.text(st.sampled_from("aB%_\\'éÉ*-0\n"), max_size=3)),
        )
    if column.type == "ip":
        addresses = st.sampled_from(ADDRESSES)
        networks = st.builds(
            lambda address, bits: network(f"{ip_text(address)}/{bits}"),
            addresses,
            st.integers(0, 32),
        ) | st.builds(
            lambda address, bits: network(f"{IPv6Address(address)}/{bits}"),
            addresses,
            st.integers(0, 128),
        )
        return st.one_of(
            each(Op.eq, addresses),
            each(Op.any_of, st.lists(addresses, max_size=3).map(tuple)),
            each(Op.inside, networks),
        )
    base = NOW - 4 if column.type == "time" else 0
    numbers = st.one_of(st.integers(base, base + 4), st.just(2**63 - 1))
    compared = st.sampled_from([Op.eq, Op.ge, Op.gt, Op.le, Op.lt]).flatmap(
        lambda op: each(op, numbers)
    )
    return st.one_of(
        compared,
        each(Op.between, st.tuples(numbers, numbers)),
        each(Op.any_of, st.lists(numbers, max_size=3).map(tuple)),
        *([] if column.type == "time" else [each(Op.bits, st.integers(1, 7))]),
    )


def filters() -> st.SearchStrategy[Filter]:
    def grow(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        parts = st.lists(inner, max_size=3).map(tuple)
        return st.one_of(parts.map(And), parts.map(Or), inner.map(Not))

    return st.recursive(matches(), grow, max_leaves=6)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(filter=filters())
def test_mask_and_sql_agree(stored: tuple[FlowBatch, Reader], filter: Filter) -> None:
    batch, reader = stored
    condition, parameters = where(filter)
    found = reader.query(f"SELECT src_cookie FROM {TABLE} WHERE {condition}", parameters)
    assert sorted(found.columns.get("src_cookie", [])) == Mask(filter)(batch).nonzero()[0].tolist()


def test_values_never_become_sql() -> None:
    evil = "x' OR 1=1 --"
    condition, parameters = where(Match("src_name", Op.eq, evil))
    assert condition == "src_name = {f0:String}"
    assert parameters == {"f0": evil}
