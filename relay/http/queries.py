"""Store queries for HTTP requests: in worker threads, bounded, and stopped when nobody waits."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from weakref import WeakSet

from fastapi import Request

from relay.http.errors import STOPPING, ApiError
from relay.store import Reader, Store, StoreError, Table
from relay.store.arrays import Columns
from relay.store.ends import Ends
from relay.store.plan import Plan

T = TypeVar("T")

QUERY_S: Final = 20
"""Longest a query may run."""
WORKERS: Final = max(2, min(4, os.cpu_count() or 2))
"""Queries at a time. More than there are cores would only take memory, and time from the ingest."""
WAITING: Final = 64
"""Queries in line: nobody is refused before."""
RETRY_S: Final = 5
LARGE_BYTES: Final = 16 * 1024 * 1024
"""A question that got so much goes on when no other such one runs: each takes 250 MB or more."""


class Cancelled(Exception):
    """The query was stopped: its client left, or the relay stops."""


class Large:
    """Lets one large question go on at a time; ``trim`` gives back what the engine freed."""

    def __init__(self, trim: Callable[[], None]) -> None:
        self.trim = trim
        self.turn = threading.Lock()


class Session:
    """The queries of one request. They carry a mark, by which they are found to be stopped."""

    def __init__(self, reader: Reader, plan: Callable[..., Plan], ends: Ends, large: Large) -> None:
        self.plan = plan
        """Which tables to ask about a stretch of time (ns), in steps (ns) if there is a third."""
        self.ends = ends
        self._large = large
        self._got = 0
        """Bytes of answers; one that was refused is the last: nobody goes on after a StoreError."""
        self._holds_turn = False
        self.mark = f"flowobs-{uuid.uuid4().hex}"
        self.cancelled = False
        self._reader = reader

    def query(self, select: str, parameters: Mapping[str, Any]) -> Table:
        """Run ``select``, which must begin with SELECT. Blocks. Raises StoreError, Cancelled."""
        return self._reader.query(self._marked(select), parameters)

    def stream(self, select: str, parameters: Mapping[str, Any]) -> Iterator[Table]:
        """Like :meth:`query`, block by block."""
        return self._reader.stream(self._marked(select), parameters)

    def arrays(self, select: str, parameters: Mapping[str, Any]) -> Columns:
        """Like :meth:`query`, as numpy arrays."""
        if self._got > LARGE_BYTES:
            if not self._holds_turn:
                self._large.turn.acquire()
                self._holds_turn = True
            self._large.trim()
        found = self._reader.arrays(self._marked(select), parameters)
        self._got += sum(values.nbytes for values in found.values())
        return found

    def raw(self, select: str, format: str, parameters: Mapping[str, Any]) -> bytes:
        """Like :meth:`query`, the answer as the engine writes ``format``."""
        return self._reader.raw(self._marked(select), format, parameters)

    def end(self) -> None:
        """No more queries: the next large question may go on."""
        if self._holds_turn:
            self._large.turn.release()

    def _marked(self, select: str) -> str:
        if self.cancelled:
            raise Cancelled
        # chdb keeps neither comments nor query ids we could choose; an alias stays in the text
        return f"WITH '{self.mark}' AS query_mark {select}"


class Queries:
    """Runs ``work(session)`` for requests: ``workers`` at a time, ``waiting`` more in line."""

    def __init__(self, store: Store, *, workers: int = WORKERS, waiting: int = WAITING) -> None:
        self._reader = store.reader(size=workers, max_seconds=QUERY_S)
        self._plan = store.plan
        self._ends = Ends()
        self._large = Large(store.trim)
        self._killer = store.reader(size=1, max_seconds=5)
        self._most = workers + waiting
        self._jobs = 0
        self._answered: WeakSet[Request] = WeakSet()
        self._stopped = False
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="query")
        # its own thread: stopping a query must not wait in line behind queries
        self._kill_pool = ThreadPoolExecutor(1, thread_name_prefix="query-kill")

    async def run(self, request: Request, work: Callable[[Session], T]) -> T:
        """``work``'s result. Raises ApiError (503) when the store or the line cannot serve it, and
        Cancelled when the client left: then the query is stopped and nobody reads the answer.

        The line is full for new requests only: an answer that has begun is not broken off."""
        if self._stopped:
            raise _stopping()
        if self._jobs >= self._most and request not in self._answered:
            raise ApiError(
                503, "too many queries are waiting; try again in a few seconds", retry_s=RETRY_S
            )
        session = Session(self._reader, self._plan, self._ends, self._large)
        self._jobs += 1
        done = asyncio.get_running_loop().run_in_executor(self._pool, _ended, work, session)
        done.add_done_callback(self._finished)
        gone = asyncio.ensure_future(_disconnected(request))
        both: set[asyncio.Future[Any]] = {done, gone}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not done.done():
                session.cancelled = True
                if not self._stopped:  # else it ends with the store
                    self._kill_pool.submit(self._kill, session.mark)
        if not done.done():
            raise Cancelled
        if done.cancelled():  # it was still in line
            raise _stopping()
        try:
            found = done.result()
        except StoreError as error:
            raise ApiError(503, str(error)) from None
        self._answered.add(request)
        return found

    def stop(self) -> None:
        """Take no more work. Running queries end with the store."""
        self._stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._kill_pool.shutdown(wait=False, cancel_futures=True)

    def _finished(self, done: asyncio.Future[Any]) -> None:
        self._jobs -= 1
        if not done.cancelled():
            done.exception()  # nobody may be left to look at it

    def _kill(self, mark: str) -> None:
        try:
            self._killer.query(
                f"KILL QUERY WHERE query LIKE '%{mark}%' AND query NOT LIKE 'KILL%' ASYNC"
            )
        except StoreError:
            return  # the store is gone or busy; the query ends by its own time limit


def _ended(work: Callable[[Session], T], session: Session) -> T:
    try:
        return work(session)
    finally:
        session.end()


def _stopping() -> ApiError:
    return ApiError(503, STOPPING)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
