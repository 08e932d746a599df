"""Addresses in text, as the API gives them, as 16 bytes."""

from __future__ import annotations

import socket

_V4 = bytes(10) + b"\xff\xff"


def packed(text: str) -> bytes | None:
    """IPv4 as ::ffff:a.b.c.d. None for what is no address ("None", a host name, empty)."""
    try:
        if ":" in text:
            return socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
        return _V4 + socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return None
