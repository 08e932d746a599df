"""Drops what retention says, part by part: no mutation ever rewrites a table."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final, NamedTuple

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from relay.store import ddl
from relay.store.errors import is_full
from relay.store.reserve import Reserve
from relay.store.retention import Part, Retention, doomed
from relay.store.rollup import TABLES, since_of

log = logging.getLogger(__name__)

_FILES: Final = 11 * 4096
"""What a part takes besides its bytes: a folder and ten files of some bytes, a block each."""


class DroppedEarly(NamedTuple):
    """A table of which --max-disk took what --retention would have kept."""

    table: str
    since_ns: int
    """From when on it has all."""
    wanted_s: int
    """How long it should be kept."""


class Sweeper:
    """Applies a retention to the tables of one store. Its client is used by one thread at once."""

    def __init__(self, client: Client, retention: Retention, reserve: Reserve) -> None:
        self.retention = retention
        self._client = client
        self._reserve = reserve
        self._lock = threading.Lock()
        self._dropped: dict[str, int] = {}
        self._oldest: dict[str, int] | None = None
        self._begin: int | None = None
        self._since = {
            row[0]: since_of(row[1]) or 0
            for row in client.query(
                "SELECT name, comment FROM system.tables WHERE database = currentDatabase()"
            ).result_rows
            if row[0] in TABLES
        }

    def sweep(self) -> int:
        """Drop what has to go; the bytes freed. Raises the engine's errors."""
        freed = 0
        early: dict[str, int] = {}
        with self._lock:
            try:
                parts, passing = self._parts()
                for part, why in doomed(parts, self.retention, time.time(), passing):
                    if not self._drop(part):
                        continue
                    freed += part.bytes
                    if why == "size":
                        newest = (part.newest + 1) * 10**9
                        self._dropped[part.table] = max(newest, self._dropped.get(part.table, 0))
                        early[part.table] = early.get(part.table, 0) + part.bytes
            finally:
                self._reserve.keep()
                for table, size in early.items():
                    log.warning(
                        "records are dropped before their time, --max-disk is reached:"
                        " table=%s until=%s bytes=%d",
                        table,
                        time.strftime(
                            "%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._dropped[table] // 10**9)
                        ),
                        size,
                    )
        return freed

    def complete(self) -> dict[str, int]:
        """From when on (ns) each table has all that came, without asking the engine."""
        now = time.time_ns()
        oldest = self._oldest or {}
        return {
            table: max(
                now - self.retention.seconds[table] * 10**9,
                self._dropped.get(table, 0),
                oldest.get(table, 0),
                self._since.get(table, 0),
            )
            for table in TABLES
        }

    def dropped_early(self) -> list[DroppedEarly]:
        """Of what was dropped since the start, without asking the engine."""
        now, wanted = time.time_ns(), self.retention.seconds
        return [
            DroppedEarly(table, since_ns, wanted[table])
            for table, since_ns in self.complete().items()
            if self._dropped.get(table, 0) > now - wanted[table] * 10**9
        ]

    @property
    def begin(self) -> int | None:
        """When the oldest record of ``flows`` was (ns), at the last sweep; None: none was there."""
        return self._begin

    def close(self) -> None:
        """Let go of the client."""
        self._client.close()

    def _drop(self, part: Part) -> bool:
        """False where it was merged meanwhile: the next sweep sees what it became."""
        try:
            self._client.command(f"ALTER TABLE {part.table} DROP PART '{part.name}'")
        except DatabaseError as error:
            if "NO_SUCH_DATA_PART" in str(error):
                return False
            if is_full(error) and self._reserve.release():
                return self._drop(part)
            raise
        return True

    def _parts(self) -> tuple[list[Part], int]:
        """All parts, and the bytes on disk besides: of parts that merges have replaced, which stay
        for a while, of those that merges write just now, and of each part's small files."""
        rows = self._client.query(
            "SELECT table, name, bytes_on_disk AS bytes,"
            " toUnixTimestamp(max_time) AS newest, toUnixTimestamp(min_time) AS oldest, active,"
            " (SELECT sum(total_size_bytes_compressed) FROM system.merges"
            "  WHERE database = currentDatabase()) AS merging"
            # one without rows, whose times are zero, goes by itself
            " FROM system.parts WHERE rows > 0 AND database = currentDatabase()"
            " AND table IN {tables:Array(String)}",
            {"tables": list(TABLES)},
        ).result_rows
        passing = rows[0][6] + len(rows) * _FILES if rows else 0
        passing += sum(row[2] for row in rows if not row[5])
        rows = [row for row in rows if row[5]]
        # A restart forgets what was dropped for size; what is left begins where that ended.
        oldest: dict[str, int] = {}
        for row in rows:
            oldest[row[0]] = min(row[4] * 10**9, oldest.get(row[0], 2**63))
        self._begin = oldest.get(ddl.TABLE)
        if self._oldest is None:
            self._oldest = oldest
        return [Part(*row[:4]) for row in rows], passing
