"""Logging: one line per event, ``key=value`` pairs or JSON.

Write ``log.info("listening", extra={"address": "127.0.0.1:4243"})``: the message names the event,
and everything in ``extra`` follows it.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def setup(
    *, as_json: bool = False, level: int = logging.INFO, stream: TextIO | None = None
) -> None:
    """Send the root logger to ``stream`` (standard error), one line per event."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else KeyValueFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class KeyValueFormatter(logging.Formatter):
    """``2026-01-02T03:04:05.678Z INFO relay.server listening address=127.0.0.1:4243``"""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one."""
        pairs = "".join(f" {key}={_quoted(value)}" for key, value in _fields(record).items())
        event = _one_line(record.getMessage())
        line = f"{_time(record)} {record.levelname} {record.name} {event}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per event: ``time``, ``level``, ``logger``, ``event``, the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback goes into ``exception``."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {k: v for k, v in vars(record).items() if k not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z"


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(c in ' "=' for c in text)
    return text if plain else json.dumps(text)


def _one_line(text: str) -> str:
    # what a peer sent may be in a message: it must not forge a second log line
    return text.replace("\n", "\\n").replace("\r", "\\r")
