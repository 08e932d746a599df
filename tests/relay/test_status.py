"""What the status tells of the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from flowobs.rows import time_text
from relay.http.status import Status
from relay.hub import Hub
from relay.metrics import RelayMetrics
from relay.store import Store
from tests.relay.flows import flows

DAY_NS = 86_400 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"chdb://{tmp_path / 'store'}", max_disk="1KB")
    yield store
    store.close()


def status_of(store: Store) -> Status:
    idle: Any = SimpleNamespace(error=None, lag_s=0.0, queue_rows=0)
    return Status(store, idle, Hub(RelayMetrics(CollectorRegistry(), "test")), lambda: [])


async def test_it_is_still_told_when_the_store_may_not_be_asked_any_more(store: Store) -> None:
    status = status_of(store)
    status.stop()
    assert await status.trouble() is None
    assert (await status.collect())["store"]["rows"] is None


async def test_it_tells_what_the_disk_budget_drops_early(store: Store) -> None:
    status, yesterday = status_of(store), time.time_ns() - DAY_NS
    assert (await status.collect())["store"]["dropped_early"] == []
    for start_ns in (yesterday, yesterday + DAY_NS):
        store.insert([flows(100, start_ns=start_ns)], f"{start_ns}")
    store.sweep()
    early = (await status.collect())["store"]["dropped_early"]
    since = time_text((yesterday // 10**9 + 1) * 10**9)
    assert early[0] == {"table": "flows", "since": since, "wanted_s": 3 * 86_400}
