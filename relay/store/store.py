"""The flow store: one table of records, in an embedded engine or on a ClickHouse server."""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowobs.batch import FlowBatch
from relay.store import ddl
from relay.store.cluster import READ_LOCALLY, WRITE_SETTINGS, OnCluster, local
from relay.store.engine import Engine, Limits, open_engine
from relay.store.errors import DiskFull, StoreError, explain
from relay.store.migrations import prepare
from relay.store.native import to_native
from relay.store.plan import Plan, plan
from relay.store.reader import READ_SETTINGS, Reader
from relay.store.reserve import Reserve
from relay.store.retention import Retention
from relay.store.rollup import TABLES
from relay.store.sweeper import DroppedEarly, Sweeper

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What the store holds. Times are nanoseconds since 1970, None where there are no rows."""

    rows: int
    """Records."""
    bytes: dict[str, int]
    """On disk, by table, without what merges have replaced."""
    oldest: int | None
    newest: int | None
    engine: str


class Store:
    """Writes and reads flow records. Opened by :meth:`open`, used until :meth:`close`.

    ``insert`` belongs to one thread; readers may be used from any.
    """

    def __init__(
        self, engine: Engine, retention: Retention, window: int, cluster: str | None = None
    ) -> None:
        self.url = engine.url
        self.folder = engine.folder
        self.retention_s = retention.seconds[ddl.TABLE]
        self._engine = engine
        # Written on all our queries, so that close can stop those and no others.
        self._tag = f"flowobs-{uuid.uuid4()}"
        self._cluster = cluster
        settings: dict[str, Any] = {
            "async_insert": 0,
            # The views have grouped what they insert: doing it again costs a third of them.
            "optimize_on_insert": 0,
            # No column has any: to prepare for them takes 1 to 2 ms of each insert.
            "input_format_defaults_for_omitted_fields": 0,
            "log_comment": self._tag,
        }
        self._writer = engine.client(settings | (WRITE_SETTINGS if cluster else {}))
        self._readers: list[Reader] = []
        self._closed = False
        try:
            if cluster is None:
                prepare(self._writer, self.url, window, engine.check_room)
                self._limit_parts(ddl.parts(retention.max_bytes))
            else:
                servers = OnCluster(self._writer, cluster)
                prepare(servers, self.url, window)
                for statement in servers.keep(retention):
                    servers.command(statement)
            version = self._writer.command("SELECT version()")
            sweeping = engine.client({"log_comment": self._tag})
            self._sweeper = Sweeper(sweeping, retention, Reserve(engine.folder))
            try:
                self.sweep()
            except DiskFull as error:  # what is there can be asked for, and agents wait
                log.error("what is past its retention cannot be dropped: %s", error)
        except StoreError:
            self._writer.close()
            raise
        except Exception as error:
            self._writer.close()
            raise explain(error, self.url) from None
        self.retention = retention.text
        self.engine = f"ClickHouse {version}" + (" (chdb)" if engine.kind == "chdb" else "")
        self._status = self.reader(size=1)
        self._trimmer = engine.client({}) if engine.kind == "chdb" else None
        self._trimming = threading.Lock()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        retention: str = "3d",
        max_disk: str | None = None,
        limits: Limits | None = None,
        window: int = ddl.DEDUPLICATION_WINDOW,
        cluster: str | None = None,
    ) -> Store:
        """Open (and make, where it is new) the store at ``url``.

        ``chdb:///absolute/folder`` is embedded and belongs to this process alone;
        ``http(s)://user:password@host:port/database`` is a server, or, with ``cluster`` (its name
        there), one of a cluster's. Raises StoreError for a store
        that cannot be used, ValueError for a URL, retention or size that is none.
        """
        keep = Retention.parse(retention, max_disk)
        if cluster is not None and url.startswith("chdb:"):
            raise StoreError(
                "--cluster needs a ClickHouse server: give one of its servers with"
                " --store http(s)://user:password@host:port/database"
            )
        if cluster is not None and max_disk is not None:
            raise StoreError(
                "--max-disk is for one machine: leave it out, a cluster keeps by --retention"
            )
        engine = open_engine(url, limits or Limits())
        try:
            return cls(engine, keep, window, cluster)
        except BaseException:
            engine.close()
            raise

    def insert(self, batches: Sequence[FlowBatch], token: str) -> None:
        """Store records; a ``token`` that was stored before makes it a no-op. Raises StoreError.

        After an error nothing or all may be stored: insert the same again with the same token.
        """
        self.insert_native(to_native(batches), token)

    def insert_native(self, blocks: Sequence[bytes], token: str) -> None:
        """Like :meth:`insert`, of what ``to_native`` made."""
        if not blocks:
            return
        self._engine.check_room()
        try:
            self._writer.raw_insert(
                ddl.TABLE,
                ddl.NAMES,
                b"".join(blocks),
                fmt="Native",
                settings={"insert_deduplication_token": token},
            )
        except Exception as error:
            raise explain(error, self.url) from None

    def insert_file(self, path: Path, token: str) -> None:
        """Like :meth:`insert_native`, of a file of blocks; only for an embedded engine."""
        self._engine.check_room()
        try:
            # Without a list of columns: those that the file does not have are zero or empty.
            # The token is in the statement: to set and reset it would be three more of them.
            self._writer.command(
                f"INSERT INTO {ddl.TABLE} FROM INFILE '{path}'"
                f" SETTINGS insert_deduplication_token = '{token}' FORMAT Native"
            )
        except Exception as error:
            raise explain(error, self.url) from None

    def reader(self, *, size: int = 4, max_seconds: int = 30) -> Reader:
        """A pool of read-only clients; the store closes it."""
        settings = READ_SETTINGS | {"max_execution_time": max_seconds, "log_comment": self._tag}
        if self._cluster is not None:
            settings |= READ_LOCALLY
        reader = Reader(
            # readonly comes last: after it no setting can be changed.
            lambda: self._engine.client(settings | {"readonly": 1}),
            self.url,
            size=size,
        )
        self._readers.append(reader)
        return reader

    def sweep(self) -> int:
        """Drop what is past its retention; the bytes freed. Raises StoreError; blocks."""
        if self._cluster is not None:
            return 0  # the servers do it
        try:
            return self._sweeper.sweep()
        except Exception as error:
            raise explain(error, self.url) from None

    def trim(self) -> None:
        """Give freed memory back to the system, which the embedded engine would keep; takes a
        millisecond, or ten after a large answer. Raises StoreError."""
        if self._trimmer is None:
            return
        with self._trimming:
            try:
                self._trimmer.command("SYSTEM JEMALLOC PURGE")
            except Exception as error:
                raise explain(error, self.url) from None

    def plan(self, from_ns: int, to_ns: int, step_ns: int | None = None) -> Plan:
        """The tables to ask about ``from_ns`` <= time < ``to_ns``, in steps of ``step_ns``."""
        complete = self._sweeper.complete()
        return plan(from_ns, to_ns, complete, step_ns=step_ns, now_ns=time.time_ns())

    @property
    def begin(self) -> int | None:
        """About when (ns) its records begin, without asking the engine; None: not known yet."""
        begin = self._sweeper.begin
        return None if begin is None else max(begin, self._sweeper.complete()[ddl.TABLE])

    def dropped_early(self) -> list[DroppedEarly]:
        """Tables that --max-disk keeps shorter than --retention, without asking the engine."""
        return self._sweeper.dropped_early()

    def stats(self) -> StoreStats:
        """What is in the store now. Raises StoreError; blocks for a few milliseconds."""
        names, source = {table: table for table in TABLES}, "system.parts"
        if self._cluster is not None:
            names = {local(table): table for table in TABLES}
            source = f"cluster('{self._cluster}', system.parts)"
        parts = self._status.query(
            f"SELECT table, sum(rows) AS n, sum(bytes_on_disk) AS b FROM {source}"
            " WHERE active AND database = currentDatabase() AND table IN {tables:Array(String)}"
            " GROUP BY table",
            {"tables": list(names)},
        )
        bytes, rows = dict.fromkeys(TABLES, 0), 0
        for name, n, b in zip(parts["table"], parts["n"], parts["b"], strict=True):
            bytes[names[name]] = b
            if names[name] == ddl.TABLE:
                rows = n
        oldest = newest = None
        if rows:
            ends = self._status.query(
                f"SELECT min(time) AS oldest, max(time) AS newest FROM {ddl.TABLE}"
            ).columns
            oldest, newest = int(ends["oldest"][0]), int(ends["newest"][0])
        return StoreStats(rows, bytes, oldest, newest, self.engine)

    def close(self, patience: float = 3.0) -> None:
        """Stop running queries and let go of the engine, within about ``patience`` seconds."""
        if self._closed:
            return
        self._closed = True
        # A query that does not stop must not keep the process: the thread is left behind then.
        closer = threading.Thread(target=self._close, name="store-close", daemon=True)
        closer.start()
        closer.join(patience)
        if closer.is_alive():
            log.warning("the store %s did not close within %.0f s", self.url, patience)
        self._engine.close()

    def _limit_parts(self, settings: Sequence[str]) -> None:
        for table in TABLES:
            definition = str(self._writer.command(f"SHOW CREATE TABLE {table}"))
            changed = [text for text in settings if not re.search(rf"\b{text}\b", definition)]
            if not changed:
                continue
            with suppress(StoreError):  # no room: see prepare; the next start may do it
                self._engine.check_room()
                self._writer.command(f"ALTER TABLE {table} MODIFY SETTING {', '.join(changed)}")

    def _close(self) -> None:
        for reader in self._readers:
            reader.close()
        try:
            killer = self._engine.client({})
            try:
                killer.command(f"KILL QUERY WHERE Settings['log_comment'] = '{self._tag}' ASYNC")
            finally:
                killer.close()
        except Exception as error:
            log.warning("running queries were not stopped: %s", error)
        self._sweeper.close()
        self._writer.close()
        if self._trimmer is not None:
            self._trimmer.close()
