"""Queries of HTTP requests: bounded, and stopped when their client leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Request

from relay.http.errors import ApiError
from relay.http.queries import Cancelled, Queries, Session
from relay.store import Store
from tests.busy import within

ENDLESS = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(f"chdb://{tmp_path_factory.mktemp('queries') / 'store'}")
    yield store
    store.close()


class Client:
    """The client's end of a request: stays until ``leave``."""

    def __init__(self) -> None:
        self._gone = asyncio.Event()
        self._sent = False
        self.request = Request({"type": "http"}, self._receive)

    def leave(self) -> None:
        self._gone.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}


async def test_an_answer(store: Store) -> None:
    queries = Queries(store)
    table = await queries.run(
        Client().request, lambda s: s.query("SELECT {a:UInt8} + 1 AS n", {"a": 1})
    )
    assert table.columns == {"n": [2]}
    queries.stop()


async def test_store_errors_are_503(store: Store) -> None:
    queries = Queries(store)
    with pytest.raises(ApiError) as caught:
        await queries.run(Client().request, lambda s: s.query("SELECT nonsense", {}))
    assert caught.value.status == 503
    queries.stop()


async def test_large_questions_take_turns(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.http.queries.LARGE_BYTES", 7)
    queries = Queries(store)
    turn = queries._large.turn

    def large(session: Session) -> None:
        assert list(session.arrays("SELECT toUInt64(3) AS n", {})["n"]) == [3]
        assert not turn.locked()  # nobody knew how large it is
        session.arrays("SELECT toUInt64(3) AS n", {})
        assert turn.locked()
        session.arrays("SELECT nonsense", {})

    for _ in range(2):  # one that fails lets the next one go on
        with pytest.raises(ApiError, match="nonsense"):
            await queries.run(Client().request, large)
        assert not turn.locked()
    queries.stop()


async def test_an_answer_of_many_bytes_is_refused(store: Store) -> None:
    queries = Queries(store)
    with pytest.raises(ApiError, match="too much memory: ask for a shorter time range"):
        await queries.run(
            Client().request, lambda s: s.arrays("SELECT number FROM numbers(13000000)", {})
        )
    queries.stop()


async def test_a_query_ends_when_its_client_leaves(store: Store) -> None:
    queries, client = Queries(store, workers=1), Client()
    ended = threading.Event()

    def work(session: Session) -> None:
        try:
            session.query(ENDLESS, {})
        finally:
            ended.set()

    asking = asyncio.create_task(queries.run(client.request, work))
    await asyncio.sleep(0.5)
    assert not ended.is_set()
    with within(3):
        client.leave()
        with pytest.raises(Cancelled):
            await asking
        assert await asyncio.to_thread(ended.wait, 60)
    # the only worker is free again
    table = await queries.run(Client().request, lambda s: s.query("SELECT 1 AS n", {}))
    assert table.rows == 1
    queries.stop()


async def test_the_line_is_bounded(store: Store) -> None:
    queries, client = Queries(store, workers=1, waiting=1), Client()
    go_on = threading.Event()
    waiting = [
        asyncio.create_task(queries.run(client.request, lambda s: go_on.wait(60))) for _ in range(2)
    ]
    await asyncio.sleep(0.1)
    with pytest.raises(ApiError, match="too many queries are waiting") as caught:
        await queries.run(client.request, lambda s: None)
    assert caught.value.status == 503 and caught.value.retry_s
    go_on.set()
    assert await asyncio.gather(*waiting) == [True, True]
    await queries.run(client.request, lambda s: None)
    queries.stop()


async def test_an_answer_that_has_begun_is_not_refused(store: Store) -> None:
    """The next page of an export waits behind those that came before."""
    queries, export, other = Queries(store, workers=1, waiting=1), Client(), Client()
    assert await queries.run(export.request, lambda s: 1) == 1
    go_on = threading.Event()
    waiting = [
        asyncio.ensure_future(queries.run(other.request, lambda s: go_on.wait(60)))
        for _ in range(2)
    ]
    await asyncio.sleep(0)
    with pytest.raises(ApiError, match="too many queries are waiting"):
        await queries.run(Client().request, lambda s: None)
    page = asyncio.ensure_future(queries.run(export.request, lambda s: 2))
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.gather(page, *waiting) == [2, True, True]
    queries.stop()


async def test_a_query_in_line_is_not_started_for_a_client_that_left(store: Store) -> None:
    queries, first, second = Queries(store, workers=1), Client(), Client()
    go_on, started = threading.Event(), threading.Event()

    def work(session: Session) -> None:
        session.query("SELECT 1", {})
        started.set()

    busy = asyncio.create_task(queries.run(first.request, lambda s: go_on.wait(60)))
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(queries.run(second.request, work))
    await asyncio.sleep(0.05)
    second.leave()
    with pytest.raises(Cancelled):
        await waiting
    go_on.set()
    await busy
    await queries.run(first.request, lambda s: None)
    assert not started.is_set()
    queries.stop()


async def test_whoever_waits_when_the_relay_stops_is_told_so_or_leaves(store: Store) -> None:
    queries, first, second = Queries(store, workers=1), Client(), Client()
    go_on = threading.Event()
    running = asyncio.create_task(queries.run(first.request, lambda s: go_on.wait(60)))
    in_line = asyncio.create_task(queries.run(second.request, lambda s: None))
    await asyncio.sleep(0.05)
    queries.stop()
    with pytest.raises(ApiError, match="shutting down"):
        await in_line
    first.leave()
    with pytest.raises(Cancelled):
        await running
    with pytest.raises(ApiError, match="shutting down"):
        await queries.run(Client().request, lambda s: None)
    go_on.set()
