"""ClickHouse's HTTP interface over the embedded engine, for tests of the server path.

usage: python clickhouse_shim.py FOLDER PORT-FILE [PORT] (loopback only; writes its port to the
file)

Not covered: sessions, progress headers, errors in mid stream, multipart bodies. The user "wrong" is
refused.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import tempfile
import uuid
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb

FOLDER = sys.argv[1]
# Parameters of the transport, not of the engine.
TRANSPORT = {
    "query", "database", "user", "password", "session_id", "session_timeout", "session_check",
    "query_id", "compress", "decompress", "wait_end_of_query", "enable_http_compression",
    "default_format", "buffer_size", "client_protocol_version", "send_progress_in_http_headers",
    "http_headers_progress_interval_ms", "role", "cancel_http_readonly_queries_on_client_close",
}  # fmt: skip
INSERT = re.compile(rb"^\s*INSERT\s+INTO\s+(.*?)\s+FORMAT\s+(\w+)\s*", re.I | re.S)
READS = re.compile(r"\s*(SELECT|WITH|SHOW|DESC|EXPLAIN)", re.I)
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.I)


def quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        headers |= {"Content_Length": str(len(body)), "X_ClickHouse_Timezone": "UTC"}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path.startswith("/ping"):
            self.answer(200, b"Ok.\n")
        else:
            self.run(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length is not None else self.chunks()
        if self.headers.get("Content-Encoding") in ("gzip", "deflate"):
            body = zlib.decompress(body, 47)
        self.run(body)

    def chunks(self) -> bytes:
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def user(self) -> str:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(token).decode().partition(":")[0] if kind == "Basic" else ""

    def run(self, body: bytes) -> None:
        if self.user() == "wrong":
            text = b"Code: 516. DB::Exception: wrong: Authentication failed (AUTHENTICATION_FAILED)"
            self.answer(403, text, X_ClickHouse_Exception_Code="516")
            return
        options = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        query = options.get("query", "").encode()
        settings = {
            k: v for k, v in options.items() if k not in TRANSPORT and not k.startswith("param_")
        }
        parameters = {k[6:]: v for k, v in options.items() if k.startswith("param_")}
        engine = chdb.connect(FOLDER)
        try:
            if options.get("database"):
                engine.query(f"USE `{options['database']}`")
            whole = query + (b"\n" if query and body else b"") + body
            insert = INSERT.match(whole[:100_000])
            if insert is not None and insert[2].lower() != b"values":
                data = body if query else whole[insert.end() :]
                self.insert(engine, insert[1].decode(), insert[2].decode(), data, settings)
            else:
                # readonly comes last: after it nothing can be set.
                for name in sorted(settings, key=lambda n: n == "readonly"):
                    engine.query(f"SET {name}={quoted(settings[name])}")
                self.query(engine, whole.decode(), options, parameters)
        except Exception as error:
            found = re.search(r"Code: (\d+)", str(error))
            code = found[1] if found else "1"
            self.answer(500, str(error).encode(), X_ClickHouse_Exception_Code=code)
        finally:
            engine.close()

    def insert(
        self, engine: Any, target: str, format: str, data: bytes, settings: dict[str, str]
    ) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            pairs = ", ".join(f"{k}={quoted(v)}" for k, v in settings.items())
            clause = f" SETTINGS {pairs}" if pairs else ""
            done = engine.query(
                f"INSERT INTO {target} FROM INFILE '{file.name}'{clause} FORMAT {format}"
            )
        summary = {"written_rows": str(done.rows_read()), "written_bytes": str(done.bytes_read())}
        self.answer(
            200,
            b"",
            X_ClickHouse_Query_Id=str(uuid.uuid4()),
            X_ClickHouse_Summary=json.dumps(summary),
        )

    def query(
        self, engine: Any, sql: str, options: dict[str, str], parameters: dict[str, str]
    ) -> None:
        found = FORMAT.search(sql)
        format = found[1] if found else options.get("default_format", "TabSeparated")
        result = engine.query(sql, format, params=parameters or None)
        out = bytes(result.bytes() or b"")
        headers = {"X_ClickHouse_Format": format} if out or READS.match(sql) else {}
        self.answer(
            200,
            out,
            X_ClickHouse_Query_Id=str(uuid.uuid4()),
            X_ClickHouse_Summary=json.dumps({"read_rows": str(result.rows_read())}),
            **headers,
        )


if __name__ == "__main__":
    keep_open = chdb.connect(FOLDER)
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3]) if sys.argv[3:] else 0), Handler)
    port_file = Path(sys.argv[2])
    port_file.with_suffix(".new").write_text(str(server.server_address[1]))
    port_file.with_suffix(".new").rename(port_file)
    server.serve_forever()
