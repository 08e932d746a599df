"""The mask and the SQL of a filter select the same rows of the real engine."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings

from flowobs import schema
from flowobs.batch import Endpoint, Endpoints, FlowBatch, Strings
from flowobs.filters import Filter, Mask, Match, Op, where
from flowobs.query import QueryError, fields, parse
from flowobs.query.parser import MOST_DEPTH, MOST_WILDCARDS
from flowobs.rows import time_text
from relay.store import Reader, Store
from relay.store.ddl import TABLE
from tests.query.trees import ADDRESSES, LISTS, TEXTS, filters, questions

ROWS = 200
NOW = time.time_ns()


def random_batch() -> FlowBatch:
    """Rows whose ``cookie`` is their number, from few values: filters hit often."""
    rng = np.random.default_rng(7)
    endpoints = Endpoints(Strings())
    texts = [endpoints.strings.id(t) for t in TEXTS]
    rows = [
        endpoints.id(
            Endpoint(
                int(rng.integers(0, 9)),
                *(str(t) for t in rng.choice(TEXTS, 10)),
                *(str(t) for t in rng.choice(LISTS, 2)),
                int(rng.integers(0, 4)),
            )
        )
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


SETTINGS = settings(
    max_examples=150,
    deadline=None,
    # questions made at random are often none: those are thrown away, and that is fine
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


def check(stored: tuple[FlowBatch, Reader], filter: Filter) -> None:
    batch, reader = stored
    condition, parameters = where(filter)
    found = reader.query(f"SELECT src_cookie FROM {TABLE} WHERE {condition}", parameters)
    assert sorted(found.columns.get("src_cookie", [])) == Mask(filter)(batch).nonzero()[0].tolist()


@SETTINGS
@given(filter=filters(NOW))
def test_mask_and_sql_agree(stored: tuple[FlowBatch, Reader], filter: Filter) -> None:
    check(stored, filter)


@SETTINGS
@given(question=questions())
def test_they_agree_on_questions(stored: tuple[FlowBatch, Reader], question: str) -> None:
    try:
        filter = parse(question)
    except QueryError:
        reject()
    check(stored, filter)


def test_they_agree_on_every_name(stored: tuple[FlowBatch, Reader]) -> None:
    values = (
        "a*",
        "1..2",
        "0us..3us",
        "0s..3s",
        "10.0.0.1",
        "10.0.0.0/31",
        f">={time_text(NOW - 2)}",
        "a=b",
    )
    for name in sorted({*fields.FIELDS, *fields.ALIASES}):
        asked = 0
        for value in values:
            with suppress(QueryError):
                filter = parse(f"{name}{value}" if value.startswith(">") else f"{name}:{value}")
                check(stored, filter)
                asked += 1
        assert asked, name


@pytest.mark.parametrize(
    "question",
    [
        "(" * MOST_DEPTH + "port:80" + ")" * MOST_DEPTH,
        "not " * MOST_DEPTH + "pod:a/b",
        " or ".join(f"({'! ' * 20} port!={n})" for n in range(70)),
        "ip:" + ",".join(f"10.0.{n}.0/24" for n in range(250)),
        " ".join(f"w{n}" for n in range(99)),
        "name:" + "*a" * MOST_WILDCARDS,
    ],
)
def test_the_engine_takes_questions_at_the_limits(
    stored: tuple[FlowBatch, Reader], question: str
) -> None:
    check(stored, parse(question))


def test_values_never_become_sql() -> None:
    evil = "x' OR 1=1 --"
    condition, parameters = where(Match("src_name", Op.eq, evil))
    assert condition == "src_name = {f0:String}"
    assert parameters == {"f0": evil}
