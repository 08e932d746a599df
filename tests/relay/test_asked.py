"""What rollups answer, records answer alike."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from flowobs.batch import Endpoint
from flowobs.filters import where
from flowobs.query import parse
from flowobs.schema import EndpointKind
from relay.store import Reader, Store
from relay.store.asked import answerable, asked
from tests.relay.flows import flows, table

DB = Endpoint(
    kind=EndpointKind.pod, namespace="shop", name="db-0", workload="db", service="db",
    labels="app=db,team=pay", services="db,db-ro", zone="a", identity=7,
)  # fmt: skip
OTHER = DB._replace(
    namespace="other", name="db-1", service="dbx", labels="app=db-2", services="dbx"
)
DAY = 86_400 * 10**9


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    store = Store.open(f"chdb://{tmp_path_factory.mktemp('asked') / 'store'}")
    endpoints = table()
    for i, end in enumerate((DB, OTHER)):
        store.insert([flows(5 + i, endpoints, dst=end)], f"dst/{i}/1")
        store.insert([flows(20 + i, endpoints, src=end)], f"src/{i}/1")
    yield store.reader()
    store.close()


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("service:db-ro", 25),
        ("service:shop/db", 25),
        ("to.service:db", 5),
        ("service:db*", 52),
        ("service:dbx or src.service:db", 47),
        ("label:team=pay", 25),
        ("label:app=db", 25),
        ("to.label:app=db*", 11),
        ("not label:app=db", 27),
        ("zone:a and to.label:app=db-2", 6),
        ("service:db and to.port:8080", 25),
    ],
)
def test_rollups_know_services_and_labels(reader: Reader, question: str, rows: int) -> None:
    filter = parse(question)
    assert answerable(filter)
    condition, parameters = where(filter)
    records = reader.query(f"SELECT count() AS n FROM flows WHERE {condition}", parameters)
    assert records["n"] == [rows]
    now = time.time_ns()
    for rollup in ("flows_1m", "flows_1h"):
        of = asked(filter, now - DAY, now + DAY)
        sql = f"SELECT sum(records) AS n FROM {rollup} WHERE {of.condition}"
        assert reader.query(sql, of.parameters)["n"] == [rows], rollup


def test_what_only_records_know_is_asked_of_them() -> None:
    for question in ("process:nginx", "verdict:dropped", "service:db and rtt>1ms", "port:1"):
        assert not answerable(parse(question))
