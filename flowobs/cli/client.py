"""The relay's HTTP API over urllib: documents, and records as they come."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from flowobs.cli.errors import CliError, Interrupted, Refused, Unavailable, Unreachable
from flowobs.cli.text import clean, pointed

CONNECT_S = 10
QUERY_S = 60
"""How long a question may keep silent."""
FOLLOW_S = 45
"""How long a live stream may: it sends an empty line every 15 s."""

NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"

Row = dict[str, Any]
NETWORK_ERRORS = (OSError, http.client.HTTPException)


class _Connection(http.client.HTTPConnection):
    """Gives up on connecting sooner than on an answer."""

    def connect(self) -> None:
        answer_s, self.timeout = self.timeout, CONNECT_S
        super().connect()
        self.sock.settimeout(answer_s)


class _TlsConnection(_Connection, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TlsConnection, req)


class Relay:
    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        handlers: list[urllib.request.BaseHandler] = [_Http(), _Https()]
        host = urllib.parse.urlsplit(url).hostname or ""
        if host in ("localhost", "::1") or host.startswith("127."):
            # A proxy's loopback is another machine.
            handlers.append(urllib.request.ProxyHandler({}))
        self.note: str | None = None
        """What the relay said beside its last answer."""
        self.more = False
        """There is more than its last answer has."""
        self._position: str | None = None
        self._open = urllib.request.build_opener(*handlers).open

    def document(self, path: str, params: Mapping[str, Any], timeout: float = QUERY_S) -> Row:
        """The JSON object at ``path``."""
        with self._get(path, params, "application/json", timeout) as answer:
            try:
                found = json.loads(answer.read())
            except NETWORK_ERRORS as error:
                raise self._interrupted(error) from error
            except ValueError:
                found = None
        if not isinstance(found, dict):
            raise self._foreign("something else than a JSON object")
        return found

    def records(self, params: Mapping[str, Any], follow: bool = False) -> Iterator[list[Row]]:
        """Batches of records; the first, empty one says that the relay took the request.

        An empty batch is a sign of life. A stream that is followed never ends by itself: it raises.
        The next one goes on where it broke off.
        """
        if follow:
            yield from self._follow(params)
            return
        with self._get("/api/v1/flows", params, NDJSON, QUERY_S) as answer:
            self.more = answer.headers.get("flowobs-more") == "true"
            yield []
            for lines in self._lines(answer):
                yield [self._row(line) for line in lines if line.strip()]

    def _follow(self, params: Mapping[str, Any]) -> Iterator[list[Row]]:
        going_on = {"Last-Event-ID": self._position} if self._position else {}
        params = {**params, "follow": "true"}
        with self._get("/api/v1/flows", params, EVENTS, FOLLOW_S, going_on) as answer:
            yield []
            id, rows = b"", list[Row]()
            for lines in self._lines(answer):
                complete: list[Row] = []
                for line in lines:
                    field, _, value = line.rstrip(b"\r").partition(b":")
                    if field == b"data" and value.strip():
                        rows += self._rows(value)
                    elif field == b"id":
                        id = value.strip()
                    elif not line.strip():  # the end of an event
                        complete, rows = [*complete, *rows], []
                        self._position = id.decode("ascii", "ignore") or self._position
                yield complete
        raise self._interrupted("the relay ended the stream")

    def raw(self, params: Mapping[str, Any], media: str) -> Iterator[bytes]:
        """The answer of /api/v1/flows as it is."""
        with self._get("/api/v1/flows", params, media, QUERY_S) as answer:
            while data := self._read(answer):
                yield data

    def _lines(self, answer: http.client.HTTPResponse) -> Iterator[list[bytes]]:
        rest = b""
        while data := self._read(answer):
            *lines, rest = (rest + data).split(b"\n")
            yield lines
        if rest:
            raise self._interrupted("in the middle of a record")

    def _rows(self, text: bytes) -> list[Row]:
        try:
            rows = json.loads(text)
        except ValueError:
            rows = None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._foreign("an event that has no records")
        return rows

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read1(1 << 16)
        except NETWORK_ERRORS as error:
            raise self._interrupted(error) from error

    def _row(self, line: bytes) -> Row:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise self._foreign("a line that is no record")
        if "error" in row and "kind" not in row:
            raise Unavailable(f"The answer broke off: {clean(row['error'])}")
        return row

    def _get(
        self,
        path: str,
        params: Mapping[str, Any],
        accept: str,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        query = urllib.parse.urlencode(params, doseq=True)
        request = urllib.request.Request(
            f"{self.url}{path}{'?' if query else ''}{query}",
            headers={"Accept": accept, **(headers or {})},
        )
        try:
            answer: http.client.HTTPResponse = self._open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            raise self._refusal(error, str(params.get("q", ""))) from error
        except NETWORK_ERRORS as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise Unreachable(
                f"No relay answers at {self.url} ({_reason(reason)}). "
                "Start one with 'flowobs up' or name another with --server."
            ) from error
        if answer.headers.get_content_type() != accept:
            answer.close()
            raise self._foreign(answer.headers.get_content_type())
        self.note = answer.headers.get("flowobs-note")
        return answer

    def _refusal(self, error: urllib.error.HTTPError, question: str) -> CliError:
        with error:
            try:
                told = json.loads(error.read())
                sentence, column = clean(told["error"]), told.get("column")
            except (*NETWORK_ERRORS, ValueError, KeyError, TypeError, AttributeError):
                column = None
                sentence = (
                    f"{self.url} answered {error.code} {error.reason}. Is it a flowobs relay?"
                )
        if error.code == 400:
            return Refused(sentence + (pointed(question, column) if question else ""))
        return Unavailable(sentence) if error.code >= 500 else CliError(sentence)

    def _interrupted(self, reason: object) -> Interrupted:
        return Interrupted(f"The answer of {self.url} broke off ({_reason(reason)}).")

    def _foreign(self, what: str) -> CliError:
        return CliError(f"{self.url} sent {what}. Is it a flowobs relay? Name one with --server.")


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was closed"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
