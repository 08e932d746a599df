"""Pages of CSV and Arrow where very many records are of one time."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow.ipc  # type: ignore[import-untyped]
import pytest

from flowobs.filters import EVERYTHING
from relay.http import export, stored
from relay.http.errors import ApiError
from relay.http.flows_query import ALL, FlowsQuery, Format
from relay.http.queries import Large, Session
from relay.store import Store
from relay.store.ends import Ends
from tests.relay.flows import flows, table

CROWD = 2 * export.CROWD_ROWS + 1_000
BEGIN = 1_800_000_000 * 10**9
ROWS = CROWD + 20


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Ten records, a crowd of one time, and ten more; ports are their numbers."""
    url = f"chdb://{tmp_path_factory.mktemp('export') / 'store'}"
    store = Store.open(url, retention="flows=100000d")
    batch = flows(ROWS, table(), first_port=0)
    batch.columns["time"][:] = BEGIN
    batch.columns["time"][:10] -= range(10, 0, -1)
    batch.columns["time"][-10:] += range(1, 11)
    store.insert([batch], "crowd")
    yield Session(store.reader(), store.plan, Ends(), Large(store.trim))
    store.close()


async def pages(session: Session, format: Format, newest: bool, count: int, way: bool) -> list[Any]:
    async def run(work: Callable[[Session], Any]) -> Any:
        return work(session)

    query = FlowsQuery(
        EVERYTHING, None, None, count, newest, way, None, False, None, ("time", "src_port"), format
    )
    return [data async for data in export.chunks(query, run, run)]


@pytest.mark.parametrize(
    ("format", "newest", "count", "order"),
    [
        ("csv", True, ALL, True),
        ("arrow", False, ALL, False),
        ("arrow", True, 30_000, True),
        ("csv", True, 30_000, False),
        ("csv", False, 30_000, True),
        ("csv", False, 15, True),
    ],
)
async def test_a_crowd_comes_in_parts(
    session: Session, format: Format, newest: bool, count: int, order: bool
) -> None:
    found = await pages(session, format, newest, count, order)
    if format == "csv":
        assert max(data.count(b"\n") for data in found) < 1.2 * export.CROWD_ROWS
        rows = list(csv.DictReader(io.StringIO(b"".join(found).decode())))
        ports, times = [int(r["src_port"]) for r in rows], [r["time"] for r in rows]
    else:
        columns = pyarrow.ipc.open_stream(b"".join(found)).read_all()
        ports = columns["src_port"].to_pylist()
        times = columns["time"].cast("int64").to_pylist()
    assert len(ports) == len(set(ports)) == min(count, ROWS)
    assert times == sorted(times, reverse=order)
    ends = set(range(ROWS - 10, ROWS)) if newest else set(range(10))
    assert ends <= set(ports)


def test_a_crowd_is_not_held(session: Session) -> None:
    assert len(stored.nearest(session, EVERYTHING, True, 10)) == 10
    with pytest.raises(ApiError, match="more than 20,000 records have one time: take them as csv"):
        stored.nearest(session, EVERYTHING, True, 11)
