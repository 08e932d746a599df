"""A relay that serves the shapes of docs/api.md, with switches for what can go wrong."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit


def record(**values: Any) -> dict[str, Any]:
    """A record of a connection from shop/web-0 to shop/api-1."""
    return {
        "time": "2026-11-22T10:22:01.123456789Z",
        "kind": "open",
        "verdict": "forwarded",
        "reporter": "source",
        "proto": "tcp",
        "src_ip": "10.88.0.10",
        "dst_ip": "10.88.0.11",
        "src_port": 40312,
        "dst_port": 8080,
        "interface": "veth0",
        "node": "node-1",
        "packets": 0,
        "bytes": 0,
        "reply_packets": 0,
        "reply_bytes": 0,
        "tcp_flags": 2,
        "src_kind": "pod",
        "src_namespace": "shop",
        "src_name": "web-0",
        "dst_kind": "pod",
        "dst_namespace": "shop",
        "dst_name": "api-1",
    } | values


@dataclass
class FakeRelay:
    """Answers while the ``with`` block runs. Set its attributes to choose records and faults."""

    history: list[dict[str, Any]] = field(default_factory=list)
    live: list[dict[str, Any]] = field(default_factory=list)
    """Sent to each follower, which then hears nothing more until ``hang_up``."""
    documents: dict[str, Any] = field(default_factory=lambda: {"/api/v1/status": {}})
    slow_s: float = 0
    status: int = 200
    error: str | None = "The store is not there. Start it."
    """The sentence of an answer that is not 200; None: a body that is no JSON."""
    column: int | None = None
    """Where in the question the error is."""
    raw: bytes | None = None
    """Sent instead of records, as it is."""
    cut: bool = False
    """Ends in the middle of a line, without the end of the answer."""
    content_type: str = ""
    """Of records; empty: the right one."""
    note: str | None = None
    more: bool = False
    exported: bytes = b""
    """What an answer in csv or arrow is."""
    resumed: list[str] = field(default_factory=list)
    """What followers said they had got."""
    port: int = 0
    requests: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    hang_up: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FakeRelay:
        relay = self

        class Handler(_Handler):
            fake = relay

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hang_up.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeRelay
    _events = False

    def do_GET(self) -> None:
        fake, url = self.fake, urlsplit(self.path)
        query = parse_qs(url.query)
        fake.requests.append((url.path, query))
        time.sleep(fake.slow_s)
        try:
            if fake.status != 200:
                place = {} if fake.column is None else {"column": fake.column}
                told = json.dumps({"error": fake.error, **place})
                body = told if fake.error else "<h1>oops</h1>"
                self._whole(fake.status, body.encode())
            elif url.path == "/api/v1/flows":
                self._flows(query)
            else:
                self._whole(200, json.dumps(fake.documents[url.path]).encode())
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _whole(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _flows(self, query: dict[str, list[str]]) -> None:
        fake = self.fake
        follow = query.get("follow") == ["true"]
        self.send_response(200)
        accept = self.headers["Accept"]
        self.send_header("Content-Type", fake.content_type or accept)
        if fake.more:
            self.send_header("flowobs-more", "true")
        if fake.note:
            self.send_header("flowobs-note", fake.note)
        if "Last-Event-ID" in self.headers:
            fake.resumed.append(self.headers["Last-Event-ID"])
        self._events = accept == "text/event-stream"
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if fake.raw is not None:
            self._chunk(fake.raw)
        if accept not in ("text/event-stream", "application/x-ndjson"):
            self._chunk(fake.exported)
        elif not follow or "last" in query or "since" in query:
            last = int(query.get("last", ["100"])[0])
            self._rows(fake.history[-last:])
        if fake.cut:
            self._chunk(b'{"time": "2026-')
            self.close_connection = True
            return
        if follow:
            self._rows(fake.live)
            while not fake.hang_up.wait(0.05):
                self._chunk(b"event: alive\nid: 17\ndata:\n\n")
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def _rows(self, rows: list[dict[str, Any]]) -> None:
        if rows and self._events:
            text = json.dumps(rows, ensure_ascii=False).encode("utf-8", "surrogatepass")
            self._chunk(b"event: flows\nid: 16\ndata: " + text + b"\n\n")
        elif rows:
            self._chunk(
                "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode(
                    "utf-8", "surrogatepass"
                )
            )

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass
