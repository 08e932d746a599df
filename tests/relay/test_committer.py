from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from prometheus_client import CollectorRegistry

from flowobs.batch import FlowBatch
from relay.committer import Committer, DirectCommitter, Group
from relay.metrics import RelayMetrics
from tests.flow_factory import new_table, random_batch


class FakeStore:
    """Keeps tokens; ``fail`` makes inserts raise, ``gate`` holds them."""

    retention_s = 3600

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.rows: list[dict] = []
        self.fail: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()

    def insert(self, batches: Sequence[FlowBatch], token: str) -> None:
        self.gate.wait()
        if self.fail is not None:
            raise self.fail
        self.tokens.append(token)
        for batch in batches:
            self.rows.extend(batch.rows())


class Setup:
    def __init__(self, **options) -> None:
        self.store = FakeStore()
        self.registry = CollectorRegistry()
        self.deaths: list[BaseException] = []
        self.stored: list[int] = []
        self.table = new_table()
        self.committer = DirectCommitter(
            self.store,
            RelayMetrics(self.registry, "0"),
            self.deaths.append,
            retry_first=0.01,
            **options,
        )
        self.interface: Committer = self.committer

    def group(self, number: int, rows: int = 10) -> Group:
        batch = random_batch(rows, self.table, number)
        return Group("a", 7, number, [batch], rows, lambda: self.stored.append(number))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"flowobs_relay_{name}", labels)


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    made = Setup(max_queue_rows=25)
    made.committer.start()
    yield made
    made.store.gate.set()
    await made.committer.stop(1)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def test_groups_are_stored_in_order_under_their_own_tokens(setup):
    for number in (1, 2, 3):
        await setup.committer.submit(setup.group(number))
    await until(lambda: setup.stored == [1, 2, 3])
    assert setup.store.tokens == ["a/7/1", "a/7/2", "a/7/3"]
    assert setup.value("records_stored_total") == 30
    assert setup.value("groups_stored_total") == 3
    assert setup.committer.queue_rows == 0
    assert setup.committer.lag_s == 0


async def test_a_full_queue_makes_submit_wait_and_loses_nothing(setup):
    setup.store.gate.clear()

    async def submit_all() -> None:
        for number in range(1, 9):
            await setup.committer.submit(setup.group(number))

    task = asyncio.create_task(submit_all())
    await asyncio.sleep(0.1)
    assert not task.done()
    assert setup.committer.queue_rows == 30
    assert setup.committer.lag_s > 0.05
    assert setup.value("queue_rows") == 30
    setup.store.gate.set()
    await task
    await until(lambda: setup.stored == list(range(1, 9)))


async def test_a_failing_insert_is_tried_again_and_its_reason_shown(setup):
    setup.store.fail = OSError("the disk is full")
    await setup.committer.submit(setup.group(1))
    await until(lambda: setup.committer.error)
    assert setup.committer.error == "the disk is full"
    assert setup.stored == []
    setup.store.fail = None
    await until(lambda: setup.stored == [1])
    assert setup.committer.error is None
    assert setup.value("insert_errors_total") >= 1


async def test_a_dying_thread_is_not_silent(setup):
    setup.store.fail = SystemExit("out of memory, say")
    await setup.committer.submit(setup.group(1))
    await until(lambda: setup.deaths)
    assert isinstance(setup.deaths[0], SystemExit)
    assert setup.stored == []


async def test_records_older_than_the_retention_are_counted_not_stored(setup):
    group = setup.group(1)
    group.batches[0].columns["time"][:4] -= 2 * 3600 * 10**9
    await setup.committer.submit(group)
    await until(lambda: setup.stored == [1])
    assert len(setup.store.rows) == 6
    assert setup.value("records_dropped_total", reason="expired") == 4
    assert setup.value("records_stored_total") == 6


async def test_stop_stores_what_is_queued(setup):
    for number in (1, 2):
        await setup.committer.submit(setup.group(number))
    assert await setup.committer.stop(5) == 0
    assert len(setup.store.tokens) == 2


async def test_stop_gives_up_on_a_store_that_does_not_take_them(setup):
    setup.store.fail = OSError("no")
    await setup.committer.submit(setup.group(1))
    assert await setup.committer.stop(0.1) == 10
    assert setup.stored == []


def test_many_agents_are_asked_to_collect_for_longer():
    committer = Setup().committer
    assert committer.group_interval_ms(1) == 1000
    assert committer.group_interval_ms(200) == 10_000
