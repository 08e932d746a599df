"""GET /api/v1/status, /healthz and /metrics: what the relay is, holds and misses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

import flowobs
from flowobs.rows import time_text
from relay.committer import Committer
from relay.hub import Hub
from relay.identity.cluster import ClusterNames
from relay.ingest import AgentStatus
from relay.store import Store, StoreError, StoreStats
from relay.subscription import SLOW

_FRESH_S: Final = 1.0
_STALE_LAG_S: Final = 60.0
_NO_STORE: Final = {"cache-control": "no-store"}


class Status:
    """Collects the status. The store is asked at most once a second, however many ask us."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        hub: Hub,
        agents: Callable[[], Sequence[AgentStatus]],
        names: ClusterNames | None = None,
    ) -> None:
        self._store = store
        self._committer = committer
        self._hub = hub
        self._agents = agents
        self._names = names
        self._started = time.monotonic()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="status")
        self._lock = asyncio.Lock()
        self._stats: StoreStats | None = None
        self._error: str | None = None
        self._asked = float("-inf")
        self._stopped = False

    def stop(self) -> None:
        """Ask the store no more: what was known last is the answer."""
        self._stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def trouble(self) -> str | None:
        """Why records cannot be stored at the moment, as one sentence."""
        await self._ask()
        if self._committer.error or self._error:
            return self._committer.error or self._error
        if self._committer.lag_s > _STALE_LAG_S:
            return (
                f"the oldest record has waited {self._committer.lag_s:.0f} s for the store: "
                "give the store more CPU or send less"
            )
        return None

    async def collect(self) -> dict[str, Any]:
        """The answer of /api/v1/status."""
        trouble = await self.trouble()
        stats = self._stats
        oldest_ns = self._hub.oldest_ns
        return {
            "version": flowobs.__version__,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "store": {
                "url": self._store.url,
                "engine": self._store.engine,
                "healthy": trouble is None,
                "rows": stats.rows if stats else None,
                "bytes": sum(stats.bytes.values()) if stats else None,
                "tables": stats.bytes if stats else None,
                "oldest": _time(stats.oldest if stats else None),
                "newest": _time(stats.newest if stats else None),
                "retention": self._store.retention,
                "dropped_early": [
                    {"table": table, "since": time_text(since_ns), "wanted_s": wanted_s}
                    for table, since_ns, wanted_s in self._store.dropped_early()
                ],
                "lag_s": round(self._committer.lag_s, 3),
                "queued": self._committer.queue_rows,
                "error": trouble,
            },
            "live": {
                "subscribers": self._hub.subscribers,
                "buffered": self._hub.buffered,
                "oldest": _time(oldest_ns),
            },
            "agents": [
                {
                    "agent": agent.agent,
                    "node": agent.node,
                    "connected": agent.connected,
                    "version": agent.version,
                    "last_seen": _time(agent.last_seen),
                    "rows": agent.rows,
                    "lost": agent.lost,
                    "names_age_s": agent.names_age_s,
                }
                for agent in self._agents()
            ],
            "identity": self._names.status() if self._names is not None else None,
            "lost": {SLOW: self._hub.slow},
        }

    async def _ask(self) -> None:
        async with self._lock:
            if self._stopped or time.monotonic() - self._asked < _FRESH_S:
                return
            loop = asyncio.get_running_loop()
            try:
                self._stats = await loop.run_in_executor(self._pool, self._store.stats)
                self._error = None
            except StoreError as error:
                self._error = str(error)
            self._asked = time.monotonic()


def _time(ns: int | None) -> str | None:
    return None if ns is None else time_text(ns)


def router(status: Status, registry: CollectorRegistry) -> APIRouter:
    """The routes, over a status and the metrics of the process."""
    routes = APIRouter()

    @routes.get("/api/v1/status")
    async def get_status() -> Response:
        return JSONResponse(await status.collect(), headers=_NO_STORE)

    @routes.api_route("/healthz", methods=["GET", "HEAD"])  # balancers ask for no body
    async def healthz() -> Response:
        trouble = await status.trouble()
        if trouble is None:
            return PlainTextResponse("ok\n", headers=_NO_STORE)
        return JSONResponse({"error": trouble}, 503, headers=_NO_STORE)

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes
