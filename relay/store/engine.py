"""Opening an engine: the embedded one in a folder, or a ClickHouse server behind a URL."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from relay.store.errors import StoreError, explain, full

_MIB = 1024 * 1024
_RESERVE_BYTES = 256 * _MIB

_TABLES: Mapping[str, object] = {
    # A file for all columns of a part up to this size, which every insert's part is below: with
    # files for each of a hundred columns, making them was a third of an insert.
    "min_bytes_for_wide_part": 32 * _MIB,
    # Ten parts become one, not five: records are written again less often.
    "merge_selector_base": 10,
    # Nothing asks for them, and they are counted anew with each insert and merge.
    "auto_statistics_types": "",
}
"""How the embedded engine writes tables, where it differs from its own way."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the embedded engine may take; its own defaults are made for a server of its own."""

    memory_bytes: int = 1024 * _MIB
    threads: int = 256
    cache_bytes: int = 64 * _MIB


class Engine(Protocol):
    """Where the data is: hands out clients until closed."""

    url: str
    """Shown to people: without a password."""
    kind: str
    folder: Path | None
    """Where an embedded engine keeps its data."""

    def client(self, settings: Mapping[str, Any]) -> Client:
        """A new client with these settings. Raises StoreError."""
        ...

    def check_room(self) -> None:
        """Raises StoreError where the disk is so full that an insert should wait."""
        ...

    def close(self) -> None: ...


class Embedded:
    """ClickHouse inside this process, in a folder that only this process may use.

    Never fork after opening one: the child's first query would hang.
    """

    kind = "chdb"

    def __init__(self, path: Path, limits: Limits) -> None:
        self.url = f"chdb://{path}"
        self.folder: Path | None = path
        self._path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path)
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(
                f"the folder of the store {path} cannot be used ({error.strerror}):"
                " give one that can be written with --store"
            ) from None
        self._config = path / "engine.xml"
        try:
            config = _config(limits)
            if not self._config.exists() or self._config.read_text() != config:
                self._config.write_text(config)
            self.client({}).close()
        except BaseException as error:
            self._lock.close()
            if isinstance(error, OSError):
                raise explain(error, self.url) from None
            raise

    def client(self, settings: Mapping[str, Any]) -> Client:
        try:
            return clickhouse_connect.get_client(
                interface="chdb",
                path=str(self._path),
                database="default",
                settings=dict(settings),
                chdb_options={"config-file": str(self._config)},
            )
        except Exception as error:
            if "already initialized with path" in str(error):
                raise StoreError(
                    f"this process has another store open: close it before opening {self._path}"
                ) from None
            raise explain(error, self.url) from None

    def check_room(self) -> None:
        """The engine needs some room to merge, to drop parts, and to tell that it is full."""
        disk = os.statvfs(self._path)
        total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        if free < min(_RESERVE_BYTES, total // 10):
            raise full(self.url)

    def close(self) -> None:
        self._lock.close()


class Server:
    """A ClickHouse server."""

    kind = "server"
    folder: Path | None = None

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (8443 if parts.scheme == "https" else 8123)
        self._user = unquote(parts.username or "default")
        self._password = unquote(parts.password or "")
        self._secure = parts.scheme == "https"
        self._database = parts.path.strip("/") or "default"
        self.url = f"{parts.scheme}://{self._host}:{self._port}/{self._database}"
        admin = self._connect(None, {})
        try:
            if self._database != "default":
                name = self._database.replace("`", "")
                admin.command(f"CREATE DATABASE IF NOT EXISTS `{name}`")
        except Exception as error:
            raise explain(error, self.url) from None
        finally:
            admin.close()

    def client(self, settings: Mapping[str, Any]) -> Client:
        return self._connect(self._database, settings)

    def _connect(self, database: str | None, settings: Mapping[str, Any]) -> Client:
        try:
            return clickhouse_connect.get_client(
                host=self._host,
                port=self._port,
                username=self._user,
                password=self._password,
                secure=self._secure,
                database=database or "__default__",
                settings=dict(settings),
                connect_timeout=5,
                send_receive_timeout=60,
                # Sessions would allow one query at a time per client.
                autogenerate_session_id=False,
            )
        except Exception as error:
            raise explain(error, self.url) from None

    def check_room(self) -> None:
        """A server looks after its disks itself."""

    def close(self) -> None:
        pass


def open_engine(url: str, limits: Limits) -> Engine:
    """The engine behind ``chdb:///folder`` or ``http(s)://user:password@host:port/database``.

    Raises ValueError where it is none, StoreError where it cannot be used.
    """
    parts = urlsplit(url)
    if parts.scheme == "chdb" and not parts.netloc and len(parts.path) > 1:
        return Embedded(Path(unquote(parts.path)), limits)
    if parts.scheme in ("http", "https") and parts.hostname:
        return Server(url)
    raise ValueError(
        "the store's URL must be chdb:///absolute/folder or"
        " http(s)://user:password@host:port/database"
    )


def _lock(path: Path) -> IO[str]:
    # The engine has a lock of its own, but tells who holds it only on stderr.
    file = (path / "flowobs.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise StoreError(
            f"the store {path} is in use by another process{f' ({holder})' if holder else ''}:"
            " stop that one or give another folder with --store"
        ) from None
    with suppress(OSError):  # a full disk
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"pid {os.getpid()}".encode())
    return file


def _config(limits: Limits) -> str:
    values = {
        "max_server_memory_usage": limits.memory_bytes,
        "mark_cache_size": limits.cache_bytes,
        "primary_index_cache_size": limits.cache_bytes,
        "index_mark_cache_size": limits.cache_bytes // 4,
        "uncompressed_cache_size": 0,
        "query_condition_cache_size": limits.cache_bytes // 4,
        "compiled_expression_cache_size": limits.cache_bytes // 4,
        "background_pool_size": 2,
        "background_schedule_pool_size": 2,
        "background_common_pool_size": 1,
        "max_thread_pool_size": limits.threads,
        "max_thread_pool_free_size": 16,
        "max_concurrent_queries": 64,
        # Twenty times a second, as by default, is a third of what an idle relay does.
        "memory_worker_period_ms": 500,
    }
    return (
        f"<clickhouse>\n{_xml(values)}<merge_tree>\n{_xml(_TABLES)}</merge_tree>\n</clickhouse>\n"
    )


def _xml(values: Mapping[str, object]) -> str:
    return "".join(f"<{name}>{value}</{name}>\n" for name, value in values.items())
