"""Times as text: RFC 3339 to UTC nanoseconds. The way back is ``rows.time_text``."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_MAX_NS = 2**63 - 1
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+ -]\d\d:\d\d)", re.ASCII
)  # an unescaped + in a query string arrives as a space


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
