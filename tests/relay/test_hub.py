"""The live hub: who sees what, bounds, slow subscribers, and the seam with history."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from flowobs import schema
from flowobs.batch import FlowBatch
from flowobs.filters import EVERYTHING, Filter, from_parameters
from relay.http import history
from relay.http.flows import _resumed
from relay.http.flows_query import FlowsQuery
from relay.hub import Hub, Limits, TooManySubscribers, position_ns
from relay.lines import Lines, table_lines
from relay.metrics import RelayMetrics
from relay.recent import Recent
from relay.store import StoreError
from relay.subscription import Chunk, Closed, Subscription
from tests.flow_factory import new_table, random_batch
from tests.relay.flows import API, DB, WEB, flows, table


def make_hub(**limits: Any) -> Hub:
    metrics = RelayMetrics(CollectorRegistry(), "test")
    return Hub(metrics, Limits(**({"tick_s": 0.01} | limits)))


def ports(lines: list[bytes]) -> list[int]:
    return [json.loads(line)["src_port"] for line in lines]


async def take(subscription: Subscription) -> list[dict[str, Any]]:
    """Everything that is there, or arrives within a few ticks."""
    rows: list[dict[str, Any]] = []
    while (chunk := await subscription.next(0.1)) is not None:
        rows.extend(json.loads(line) for line in chunk.lines)
    return rows


async def test_each_subscriber_gets_what_it_asked_for_in_one_chunk_per_tick() -> None:
    hub, endpoints = make_hub(), table()
    everything = hub.subscribe(EVERYTHING)
    api = hub.subscribe(from_parameters({"pod": ["shop/api-*"]}))
    same = hub.subscribe(from_parameters({"pod": ["shop/api-*"]}))
    hub.publish(flows(2, endpoints, first_port=1, src=WEB, dst=API), resent=False)
    hub.publish(flows(1, endpoints, first_port=3, src=WEB, dst=DB), resent=False)
    chunk, shared, again = [await s.next(1) for s in (everything, api, same)]
    assert chunk is not None and shared is not None and again is not None
    assert ports(list(chunk.lines)) == [1, 2, 3]
    assert ports(list(shared.lines)) == [1, 2]
    assert again is shared  # equal filters share the work, down to the rendered text
    assert shared.lines[0] is chunk.lines[0]
    assert shared.ndjson.splitlines() == list(shared.lines)
    event = shared.sse.decode().split("\n")
    assert event[:2] == ["event: flows", f"id: {hub.position}"]
    assert len(json.loads(event[2].removeprefix("data: "))) == 2


async def test_resent_and_empty_batches_are_not_shown() -> None:
    hub = make_hub()
    subscription = hub.subscribe(EVERYTHING)
    hub.publish(flows(3), resent=True)
    hub.publish(flows(0), resent=False)
    assert await take(subscription) == []
    assert hub.buffered == 0


async def test_a_new_endpoint_table_does_not_disturb() -> None:
    hub = make_hub()
    subscription = hub.subscribe(from_parameters({"namespace": ["shop*"]}))
    for port in (1, 2, 3):
        hub.publish(flows(1, table(), first_port=port), resent=False)
    rows = await take(subscription)
    assert [row["src_port"] for row in rows] == [1, 2, 3]
    assert {row["src_name"] for row in rows} == {"web-0"}


async def test_a_slow_subscriber_loses_and_is_told_where() -> None:
    hub, endpoints = make_hub(queue_rows=10), table()
    slow, fast = hub.subscribe(EVERYTHING), hub.subscribe(EVERYTHING)
    seen: list[int] = []
    for start in range(0, 40, 8):
        hub.publish(flows(8, endpoints, first_port=100 + start), resent=False)
        seen += [row["src_port"] for row in await take(fast)]
    assert seen == list(range(100, 140)) and fast.lost == 0
    assert slow.lost == 32 and slow.queued == 8 and hub.slow == 32
    hub_rows = await take(slow)
    assert [row.get("src_port") for row in hub_rows[:8]] == list(range(100, 108))
    assert hub_rows[8] | {"time": ""} == {
        "time": "",
        "kind": "lost",
        "verdict": "unknown",
        "reporter": "unknown",
        "proto": "0",
        "src_ip": "::",
        "dst_ip": "::",
        "packets": 0,
        "bytes": 0,
        "reply_packets": 0,
        "reply_bytes": 0,
        "drop_reason": "subscriber_slow",
        "lost": 32,
    }
    hub.publish(flows(1, endpoints, first_port=999), resent=False)
    assert [row["src_port"] for row in await take(slow)] == [999]


async def test_a_burst_larger_than_a_tick_may_show_is_counted() -> None:
    hub, endpoints = make_hub(queue_rows=10), table()
    everything = hub.subscribe(EVERYTHING)
    last = hub.subscribe(from_parameters({"port": ["124"]}))
    hub.publish(flows(25, endpoints, first_port=100), resent=False)
    rows = await take(everything)
    assert [row.get("src_port") for row in rows[:10]] == list(range(100, 110))
    assert rows[10]["lost"] == 15
    assert [row["lost"] for row in await take(last)] == [1]


async def test_publishing_to_slow_subscribers_stays_cheap() -> None:
    """A hundred subscribers who never read cost a tick no more than twice what readers cost."""

    async def cost(read: bool) -> float:
        hub, endpoints = make_hub(), table()
        subscribers = [hub.subscribe(EVERYTHING) for _ in range(100)]
        begin = time.process_time()
        for _ in range(30):
            hub.publish(flows(1_000, endpoints), resent=False)
            hub.flush()
            for subscriber in subscribers if read else ():
                await subscriber.next(0)
        return time.process_time() - begin

    assert await cost(read=False) < 2 * await cost(read=True)


async def test_subscribers_are_limited_and_forgotten() -> None:
    hub = make_hub(subscribers=1)
    first = hub.subscribe(EVERYTHING)
    with pytest.raises(TooManySubscribers):
        hub.subscribe(EVERYTHING)
    hub.unsubscribe(EVERYTHING, first)
    assert hub.subscribers == 0
    hub.subscribe(EVERYTHING)


async def test_records_that_come_as_the_wait_for_them_ends_are_given() -> None:
    subscription = Subscription(10, lambda rows: None)
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, time.sleep, 0.1)  # so that both timers are due at once
    loop.call_later(0.03, subscription.offer, Chunk([b"{}"]))
    assert await subscription.next(0.02) is not None


async def test_stop_lets_readers_finish() -> None:
    hub = make_hub()
    subscription = hub.subscribe(EVERYTHING)
    hub.publish(flows(1), resent=False)
    hub.stop()
    assert await subscription.next(1) is not None
    with pytest.raises(Closed):
        await subscription.next(1)
    with pytest.raises(Closed):
        await hub.subscribe(EVERYTHING).next(1)


async def test_nothing_runs_while_nothing_comes() -> None:
    hub = make_hub()
    hub.subscribe(EVERYTHING)
    hub.publish(flows(1), resent=False)
    await asyncio.sleep(0.05)
    loop: Any = asyncio.get_running_loop()
    assert not [h for h in loop._scheduled if not h.cancelled() and "flush" in repr(h)]


def test_recent_is_bounded_and_numbered() -> None:
    recent, endpoints = Recent(limit=100), table()
    for start in range(0, 1_000, 7):
        recent.add(flows(7, endpoints, first_port=start))
    assert recent.end == 1_001 and 100 <= len(recent) < 200
    snapshot = recent.since(996)
    assert [p for b in snapshot.batches for p in b["src_port"].tolist()] == list(range(996, 1001))
    assert snapshot.missed == 0
    assert recent.since(0).missed == recent.start
    assert recent.since(recent.end).batches == []


def test_recent_keeps_few_batches() -> None:
    recent, endpoints = Recent(limit=65_536), table()
    for start in range(3_000):
        recent.add(flows(1, endpoints, first_port=start))
    batches = recent.since(0).batches
    assert len(batches) < 20
    assert [p for b in batches for p in b["src_port"].tolist()] == list(range(3_000))


def query(filter: Filter = EVERYTHING, last: int = 100) -> FlowsQuery:
    return FlowsQuery(filter, None, None, last, True, False, None, True, None, (), "ndjson")


async def followed(hub: Hub, query: FlowsQuery, fetch: history.FetchLines) -> history.Page:
    return await history.followed(hub, query, fetch, lambda lines: None)


class FakeStore:
    """Stores what it is told to, and lets things happen while it is asked."""

    def __init__(self) -> None:
        self.batches: list[FlowBatch] = []
        self.meanwhile: list[Any] = []

    def insert(self, batch: FlowBatch) -> None:
        self.batches.append(batch)

    async def fetch(self, filter: Filter, newest: bool, limit: int) -> list[bytes]:
        answer = history.nearest_lines(self.batches, filter, limit, newest)
        for act in self.meanwhile:
            act()
            await asyncio.sleep(0)
        return answer


async def test_the_seam_has_neither_gap_nor_duplicate() -> None:
    hub, store, endpoints = make_hub(), FakeStore(), table()
    base = time.time_ns()
    batches = [flows(2, endpoints, first_port=10 * i, start_ns=base + i * 10) for i in range(1, 7)]
    store.insert(batches[0])  # stored long ago, no longer in memory
    for batch in batches[1:3]:
        hub.publish(batch, resent=False)
    store.insert(batches[1])  # in both; batches[2] only in memory
    store.meanwhile = [
        lambda: store.insert(batches[2]),
        lambda: hub.publish(batches[3], resent=False),
        lambda: store.insert(batches[3]),
        lambda: hub.publish(batches[4], resent=False),
    ]
    page = await followed(hub, query(), store.fetch)
    assert ports(page.lines) == [10, 11, 20, 21, 30, 31, 40, 41, 50, 51]
    assert page.missed == 0 and page.next is None
    hub.publish(batches[5], resent=False)
    assert page.live is not None
    assert [row["src_port"] for row in await take(page.live)] == [60, 61]


async def test_the_seam_when_the_store_is_ahead_of_the_first_look() -> None:
    """A record that arrives and is stored between the first look and the store's answer."""
    hub, store, endpoints = make_hub(), FakeStore(), table()
    late = flows(2, endpoints, first_port=7)

    async def fetch(filter: Filter, newest: bool, limit: int) -> list[bytes]:
        hub.publish(late, resent=False)
        store.insert(late)
        return await store.fetch(filter, newest, limit)

    page = await followed(hub, query(), fetch)
    assert ports(page.lines) == [7, 8]
    assert page.live is not None and await take(page.live) == []


async def test_equal_records_are_not_merged_away() -> None:
    hub, store = make_hub(), FakeStore()
    batch = flows(1, start_ns=5)
    twice = FlowBatch.concat((batch, batch))
    hub.publish(twice, resent=False)
    store.insert(batch)
    page = await history.read(hub, query(), store.fetch)
    assert len(page.lines) == 2 and page.live is None


async def test_last_takes_the_newest_by_time() -> None:
    hub, store, endpoints = make_hub(), FakeStore(), table()
    hub.publish(flows(5, endpoints, first_port=10, start_ns=1_000), resent=False)
    hub.publish(flows(5, endpoints, first_port=20, start_ns=500), resent=False)
    store.insert(flows(5, endpoints, first_port=30, start_ns=1_001))
    page = await history.read(hub, query(last=4), store.fetch)
    times = [json.loads(line)["time"][-10:] for line in page.lines]
    assert times == ["000001003Z", "000001004Z", "000001004Z", "000001005Z"]
    assert page.next is not None


async def test_late_records_come_with_a_page_or_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records as old as the next page's, and one that equals one of these."""
    monkeypatch.setattr(history, "HELD_ROWS", 3)
    hub, store, endpoints = make_hub(), FakeStore(), table()
    store.insert(flows(8, endpoints, first_port=10, start_ns=1_000))
    late = [flows(1, endpoints, first_port=20 + n, start_ns=999 + n) for n in range(3)]
    late.append(store.batches[0].select(slice(4, 5)))

    def arrive() -> None:
        if late:
            hub.publish(late[-1], resent=False)
            store.insert(late.pop())

    store.meanwhile = [arrive]
    page = await followed(hub, query(last=8), store.fetch)
    assert ports(page.lines) == [10, 11, 12, 13, 14, 15, 16, 17, 14, 22, 21, 20][: 12 - len(late)]
    assert len(late) < 2 and page.missed == 0
    assert page.live is not None and await take(page.live) == []


async def test_what_memory_lost_while_the_store_was_asked_is_told() -> None:
    hub, store, endpoints = make_hub(buffer_rows=10), FakeStore(), table()
    hub.publish(flows(4, endpoints), resent=False)
    store.meanwhile = [
        lambda start=start: hub.publish(flows(10, endpoints, first_port=start), resent=False)
        for start in (100, 200, 300)
    ]
    page = await followed(hub, query(), store.fetch)
    assert page.missed == 20
    assert ports(page.lines)[-10:] == list(range(300, 310))


async def test_who_cannot_go_on_takes_no_seat() -> None:
    """A follower of an earlier run of the relay, whose missed records cannot be counted."""

    async def count(filter: Filter) -> int:
        raise StoreError("gone")

    hub, store = make_hub(), FakeStore()
    with pytest.raises(StoreError, match="gone"):
        await _resumed(hub, query(), "00000000-1-1", store.fetch, count, lambda lines: None)
    assert hub.subscribers == 0


async def test_following_needs_no_store() -> None:
    async def broken(filter: Filter, newest: bool, limit: int) -> list[bytes]:
        raise AssertionError("the store was asked")

    page = await followed(make_hub(), query(last=0), broken)
    assert page.lines == [] and page.live is not None


def test_lines_are_the_rows_to_the_letter() -> None:
    encode, line = msgspec.json.Encoder().encode, Lines()
    for seed in range(5):
        batch = random_batch(200, new_table(), seed)
        batch.columns["close_reason"][:] = np.arange(200) % 11  # numbers without a name too
        batch.columns["drop_reason"][:3] = batch.endpoints.strings.id('say "no"\n\\ é')
        assert line(batch) == [encode(row) for row in batch.rows()]
    assert Lines()(flows(0)) == []
    assert schema.RECORD_COLUMNS[0].name == "time"  # lines sort by it
    table: dict[str, list[Any]] = {"time": [5], "kind": [1]}
    assert table_lines(table, 1) == [b'{"time":"1970-01-01T00:00:00.000000005Z","kind":"open"}']


async def test_a_relay_without_records_has_a_place_in_time() -> None:
    """Else its followers, after a restart, get all that the store holds as if it was new."""
    before = time.time_ns()
    hub = make_hub()
    place = position_ns(hub.position)
    assert place is not None and before <= place <= time.time_ns()
    batch = flows(1, table())
    hub.publish(batch, resent=False)
    hub.flush()
    assert position_ns(hub.position) == batch["time"][0]
