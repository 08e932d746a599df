"""Reading the store: clients that cannot write, bounded in time and memory."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from clickhouse_connect.driver.client import Client

from relay.store.arrays import Columns, columns
from relay.store.errors import StoreError, explain

Parameters = Mapping[str, Any]

_MIB = 1024 * 1024
READ_SETTINGS: dict[str, Any] = {
    "max_execution_time": 30,
    # Some run at a time beside an ingest, in a process that should stay below 700 MB.
    "max_memory_usage": 256 * _MIB,
    # An answer is in memory three times on its way: the engine's limit does not know of that.
    "max_result_bytes": 96 * _MIB,
    # What groups or sorts more goes to disk instead of failing.
    "max_bytes_before_external_group_by": 96 * _MIB,
    "max_bytes_before_external_sort": 96 * _MIB,
    "max_bytes_ratio_before_external_group_by": 0,
    "max_bytes_ratio_before_external_sort": 0,
    # Five slices of time that each list some thousand channels are more than the default, 256 KiB.
    "max_query_size": 2 * _MIB,
    # A buffer for each of some eighty columns of each part: the default is 1 MiB.
    "max_read_buffer_size": 64 * 1024,
    # A query that runs away leaves half of the machine to the others.
    "max_threads": max(1, min(4, (os.cpu_count() or 2) // 2)),
    # `SELECT toHour(time) AS time ... WHERE time > x` means the column, as anybody would expect.
    "prefer_column_name_to_alias": 1,
}
_FORMATS = {"DateTime64*": "int"}


@dataclass(frozen=True, slots=True)
class Table:
    """A query's answer as columns: Python lists of raw numbers, strings and 16-byte addresses.

    ``columns`` is what ``flowobs.rows.row_dicts`` takes. Times are nanoseconds since 1970. An
    answer without rows has no columns either (the engine names none); ``table[name]`` is empty.
    """

    columns: dict[str, list[Any]]
    rows: int

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name] if self.rows else []


class Reader:
    """Answers queries from several threads at once, each on a client of its own.

    At most ``size`` queries run together; one more waits up to ``patience`` seconds for its turn.
    """

    def __init__(
        self, connect: Callable[[], Client], where: str, *, size: int = 4, patience: float = 10.0
    ) -> None:
        self._connect = connect
        self._where = where
        self._patience = patience
        self._turns = threading.BoundedSemaphore(size)
        self._idle: queue.LifoQueue[Client] = queue.LifoQueue()
        self._closed = threading.Event()

    def query(self, sql: str, parameters: Parameters | None = None) -> Table:
        """The whole answer. Raises StoreError; blocks, so call it from a worker thread.

        ``parameters`` fill ``{name:Type}`` in ``sql``; nothing a user says belongs in its text.
        """
        with self._client() as client:
            result = client.query(
                sql, dict(parameters or {}), column_oriented=True, query_formats=_FORMATS
            )
            return _table(result.column_names, result.result_columns)

    def arrays(self, sql: str, parameters: Parameters | None = None) -> Columns:
        """Like :meth:`query`, as numpy arrays; of numbers and arrays of numbers only."""
        with self._client() as client:
            return columns(client.raw_query(sql, dict(parameters or {}), fmt="Native"))

    def stream(self, sql: str, parameters: Parameters | None = None) -> Iterator[Table]:
        """The answer block by block, for answers too large for memory. Raises StoreError."""
        with (
            self._client() as client,
            client.query_column_block_stream(
                sql, dict(parameters or {}), query_formats=_FORMATS
            ) as blocks,
        ):
            for block in blocks:
                yield _table(blocks.source.column_names, block)

    def raw(self, sql: str, format: str, parameters: Parameters | None = None) -> bytes:
        """The whole answer as the engine writes ``format``. Raises StoreError; blocks."""
        with self._client() as client:
            return client.raw_query(sql, dict(parameters or {}), fmt=format)

    def close(self) -> None:
        """No more queries; idle clients are closed now, busy ones when their query ends."""
        self._closed.set()
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    @contextmanager
    def _client(self) -> Iterator[Client]:
        if not self._turns.acquire(timeout=self._patience):
            raise StoreError("too many queries are running: try again in a few seconds")
        try:
            if self._closed.is_set():
                raise StoreError("the store is closed: the relay is shutting down")
            try:
                client = self._idle.get_nowait()
            except queue.Empty:
                client = self._connect()
            try:
                yield client
            except StoreError:
                raise
            except Exception as error:
                raise explain(error, self._where) from None
            finally:
                if self._closed.is_set():
                    client.close()
                else:
                    self._idle.put(client)
        finally:
            self._turns.release()


def _table(names: Any, columns: Any) -> Table:
    lists = {name: _plain(column) for name, column in zip(names, columns, strict=False)}
    return Table(lists, len(columns[0]) if len(columns) else 0)


def _plain(column: Any) -> list[Any]:
    if len(column) and isinstance(column[0], IPv6Address):
        return [a.packed for a in column]
    return column if isinstance(column, list) else list(column)
