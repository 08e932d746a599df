"""shop/api: a small HTTP service that counts orders in redis.

Run in its pod: `python -m flowobs.demo.api`.
"""

from __future__ import annotations

import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from flowobs.demo import plan

TIMEOUT_S = 2.0


def count_order() -> int:
    """INCR in redis, over a connection of its own: each order is a flow to see."""
    address = (f"redis.{plan.DOMAIN}", plan.REDIS_PORT)
    with socket.create_connection(address, TIMEOUT_S) as redis:
        redis.sendall(b"*2\r\n$4\r\nINCR\r\n$6\r\norders\r\n")
        answer = redis.makefile("rb").readline()
    if not answer.startswith(b":"):
        raise OSError(f"redis said {answer!r}")
    return int(answer[1:])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/healthz":
            self.answer(200, {"ok": True})
        elif self.path == "/orders":
            try:
                self.answer(200, {"orders": count_order()})
            except OSError as error:
                self.answer(503, {"error": str(error)})
        elif self.path == "/fail":
            self.answer(500, {"error": "this path always fails"})
        else:
            self.answer(404, {"error": "no such path"})

    def answer(self, status: int, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: flows are what the demo shows."""


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6  # takes IPv4 too: Linux binds :: to both
    daemon_threads = True


if __name__ == "__main__":
    Server(("::", plan.API_PORT), Handler).serve_forever()
