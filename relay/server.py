"""The relay process: builds the parts, runs them in one event loop, ends within three seconds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Final

import grpc
import grpc.aio
import uvicorn
from prometheus_client import CollectorRegistry

import flowobs
from flowobs import assets
from flowobs.kubernetes.access import Access
from relay.committer import committer_for
from relay.config import Address, Config, ConfigError
from relay.housekeeping import Housekeeping
from relay.http.app import create_app
from relay.http.queries import Queries
from relay.http.status import Status
from relay.hub import Hub
from relay.identity.cluster import ClusterNames
from relay.ingest import SERVER_OPTIONS, Ingest
from relay.listen import bound, grpc_listen, http_socket
from relay.metrics import RelayMetrics
from relay.store import Store

log = logging.getLogger(__name__)

_GRPC_GRACE_S: Final = 0.3
_COMMIT_S: Final = 1.0
_STORE_S: Final = 0.7
"""Together with uvicorn's second these stay below three seconds."""


class RelayFailed(Exception):
    """A part died; the process has to end. One sentence."""


class Relay:
    """One relay over an open store. ``run`` serves until ``stop`` is called or a part dies.

    ``cluster``: the one whose names it gives to agents, if any.
    """

    def __init__(self, config: Config, store: Store, cluster: Access | None = None) -> None:
        self.config = config
        self.registry = CollectorRegistry()
        metrics = RelayMetrics(self.registry, flowobs.__version__)
        self.hub = Hub(metrics)
        self._store = store
        self._committer = committer_for(store, metrics, self._died)
        self._housekeeping = Housekeeping(store, metrics)
        self._ingest = Ingest(self.hub, self._committer, metrics, version=flowobs.__version__)
        self._names = ClusterNames(cluster, metrics) if cluster is not None else None
        self._stopping = asyncio.Event()
        self._death: str | None = None

    def stop(self) -> None:
        """End ``run``; from the event loop."""
        self._stopping.set()

    async def run(self, ready: Callable[[list[Address], Address], None]) -> None:
        """Serve. ``ready`` is called with the addresses of agents and of HTTP once both answer.

        Raises ListenError, ConfigError and RelayFailed.
        """
        config = self.config
        credentials = _credentials(config)
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((self._ingest.handler(),))
        if self._names is not None:
            server.add_generic_rpc_handlers((self._names.handler(),))
        sock = http_socket(config.http)
        try:
            listen = [grpc_listen(server, address, credentials) for address in config.listen]
            await self._serve(server, sock, lambda: ready(listen, bound(sock, config.http)))
        finally:
            sock.close()
        if self._death is not None:
            raise RelayFailed(self._death)

    async def _serve(
        self, server: grpc.aio.Server, sock: socket.socket, ready: Callable[[], None]
    ) -> None:
        queries = Queries(self._store)
        status = Status(
            self._store, self._committer, self.hub, lambda: self._ingest.agents, self._names
        )
        app = create_app(
            self.hub,
            queries,
            status,
            self.registry,
            assets.web(),
            self._begin,
            explain=self._names.explain if self._names is not None else None,
        )
        web = _uvicorn(app, self.config)
        web.on_started = ready
        self._committer.start()
        self._housekeeping.start()
        watching = asyncio.create_task(self._watch())
        await server.start()
        serving = asyncio.create_task(web.serve(sockets=[sock]))
        serving.add_done_callback(lambda _: self.stop())
        await self._stopping.wait()
        log.info("stopping")
        self.hub.stop()  # live streams end by themselves
        queries.stop()
        status.stop()
        self._housekeeping.stop()
        watching.cancel()
        web.should_exit = True
        await server.stop(_GRPC_GRACE_S)
        left = await self._committer.stop(_COMMIT_S)
        if left:
            log.warning("records were not stored, their agents send them again: rows=%d", left)
        closing = asyncio.to_thread(self._store.close, _STORE_S)  # ends queries, and their requests
        await asyncio.gather(closing, serving)

    async def _watch(self) -> None:
        """Names from the cluster, until cancelled."""
        if self._names is None:
            return
        log.info("watching the cluster %s for names", self._names.journal.cluster or "we are in")
        try:
            await self._names.run()
        except Exception as error:
            log.critical("the watch of the cluster has ended", exc_info=error)
            self._death = f"the watch of the cluster has ended ({error}); the log says where"
            self.stop()

    def _begin(self) -> int | None:
        return self._store.begin

    def _died(self, error: BaseException) -> None:
        self._death = (
            f"storing records failed for a reason the relay does not know ({error}); "
            "its log says where, agents keep their records until it runs again"
        )
        self.stop()


class _Uvicorn(uvicorn.Server):
    on_started: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are ours: gRPC and the store have to end too


def _is_told(record: logging.LogRecord) -> bool:
    """Not what we do on purpose, and have told or answered: uvicorn takes it for an error."""
    return not str(record.msg).startswith(
        ("Cancel %s running task", "ASGI callable returned without completing response")
    )


def _uvicorn(app: object, config: Config) -> _Uvicorn:
    logging.getLogger("uvicorn.error").addFilter(_is_told)
    return _Uvicorn(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=config.tls_cert,
            ssl_keyfile=config.tls_key,
        )
    )


def _credentials(config: Config) -> grpc.ServerCredentials | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    try:
        # tried here, because gRPC would only fail at the first connection
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            config.tls_cert, config.tls_key
        )
        pair = (config.tls_key.read_bytes(), config.tls_cert.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"--tls-cert {config.tls_cert} and --tls-key {config.tls_key} cannot be used "
            f"({error.strerror}); give a PEM certificate and its own unencrypted key"
        ) from None
    return grpc.ssl_server_credentials([pair])


async def serve(relay: Relay, ready: Callable[[list[Address], Address], None]) -> None:
    """Run ``relay`` until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, relay.stop)
    await relay.run(ready)
