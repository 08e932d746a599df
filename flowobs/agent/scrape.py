"""The agent's small HTTP server: /metrics for Prometheus, /healthz for whoever asks whether it
works, /whois for what it knows of an identity.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from flowobs.identity.whois import WhoisError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *arguments: object) -> None:
        """A line for every scrape helps nobody."""


class Scrape:
    """Serves at ``address`` (host:port). ``problem`` says why the agent is not healthy, or nothing;
    ``whois`` answers (q, at) with what becomes JSON, or raises WhoisError.

    Raises OSError where the address cannot be listened on, ValueError where it is none.
    """

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        problem: Callable[[], str],
        whois: Callable[[str, str | None], dict[str, Any]],
    ) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(
                f"{address} is not an address: write it as host:port, as in 127.0.0.1:9465"
            )
        self._metrics = make_wsgi_app(registry)
        self._problem = problem
        self._whois = whois
        try:
            self._server = make_server(host.strip("[]"), int(port), self._answer, _Server, _Quiet)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot serve metrics on {address}: {error.strerror};"
                " choose another address with --metrics",
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="scrape", daemon=True
        )

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start)
            return answer
        if path == "/whois":
            return self._explain(environ, start)
        found = path == "/healthz"
        text = (self._problem() or "ok") if found else "there is /metrics, /healthz and /whois"
        status = (
            "404 Not Found"
            if not found
            else "200 OK"
            if text == "ok"
            else "503 Service Unavailable"
        )
        start(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]

    def _explain(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        given = parse_qs(environ.get("QUERY_STRING", ""))
        try:
            answer = self._whois(given.get("q", [""])[0], given.get("at", [None])[0])
            status = "200 OK"
        except WhoisError as error:
            answer, status = {"error": str(error)}, "400 Bad Request"
        start(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
        return [json.dumps(answer).encode() + b"\n"]

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop listening; may be called without ``start``."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
