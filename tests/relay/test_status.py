"""The status while the relay stops."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from relay.http.status import Status
from relay.hub import Hub
from relay.metrics import RelayMetrics
from relay.store import Store


async def test_it_is_still_told_when_the_store_may_not_be_asked_any_more(tmp_path: Path) -> None:
    store = Store.open(f"chdb://{tmp_path / 'store'}")
    idle: Any = SimpleNamespace(error=None, lag_s=0.0, queue_rows=0)
    status = Status(store, idle, Hub(RelayMetrics(CollectorRegistry(), "test")), lambda: [])
    status.stop()
    assert await status.trouble() is None
    assert (await status.collect())["store"]["rows"] is None
    store.close()
