"""Times as text: RFC 3339, or how long ago, to UTC nanoseconds. The way back: rows.time_text."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_MAX_NS = 2**63 - 1
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+ -]\d\d:\d\d)", re.ASCII
)  # an unescaped + in a query string arrives as a space


UNITS_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_LENGTH = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([smhd])", re.ASCII)


def parse_time(text: str, now_ns: int) -> int | None:
    """UTC ns of an RFC 3339 time or of how long ago (``5m``); None where ``text`` is neither."""
    ago_ns = parse_length(text)
    return parse_rfc3339(text) if ago_ns is None else max(0, now_ns - ago_ns)


def parse_length(text: str) -> int | None:
    """ns of a length of time (``5m``), or None where ``text`` is none."""
    found = _LENGTH.fullmatch(text)
    return int(float(found[1]) * UNITS_NS[found[2]]) if found else None


def parse_rfc3339(text: str) -> int | None:
    """UTC ns, or None where ``text`` is no time from 1970 to 2262."""
    found = _RFC3339.fullmatch(text)
    if not found:
        return None
    day, clock, fraction, zone = found.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{clock}{zone.upper().replace(' ', '+')}")
    except ValueError:
        return None
    seconds = int((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    ns = seconds * 10**9 + int((fraction or "0").ljust(9, "0"))
    return ns if 0 <= ns <= _MAX_NS else None
