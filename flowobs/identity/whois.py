"""Explains an identity: which source says what of an address, a name or a socket, and why."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flowobs.filters.tree import packed
from flowobs.identity.resolver import Resolver
from flowobs.identity.source import BEGINNING, END, Claim, Socket
from flowobs.rows import ip_text, row_dicts, time_text
from flowobs.times import parse_time

MOST_CLAIMS = 200
_MOST_CHARACTERS = 600
_LIKE_ADDRESS = re.compile(r"[0-9]*\.[0-9.]*(/[0-9]*)?|.*:.*", re.DOTALL)
"""No name has a colon, or is all digits and dots."""


class WhoisError(ValueError):
    """A question that makes no sense: one sentence with the next step."""


class Asked(NamedTuple):
    """What was asked for: one of these, and the time."""

    address: bytes | None
    cookie: int | None
    namespace: str | None
    """None: of any."""
    name: str
    at_ns: int


def parse(text: str, at: str | None, now_ns: int | None = None) -> Asked:
    """``10.1.2.3``, ``shop/web-0``, ``web-0``, or a socket's cookie. Raises WhoisError."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    at_ns = now_ns if at is None else parse_time(at, now_ns)
    if at_ns is None:
        raise WhoisError(f"`at` cannot be `{at}`; write `5m` or `2026-01-31T12:00:00Z`")
    text = text.strip()
    if not text or len(text) > _MOST_CHARACTERS:
        raise WhoisError("`q` says nothing; give an address, `shop/web-0` or a socket's cookie")
    try:
        return Asked(packed(text.strip("[]")), None, None, "", at_ns)
    except ValueError:
        pass
    digits, base = (text[2:], 16) if text.startswith("0x") else (text, 10)
    try:
        cookie = int(digits, base) if digits.isascii() and digits.isalnum() else -1
    except ValueError:
        cookie = -1
    if 0 < cookie < 1 << 64:
        return Asked(None, cookie, None, "", at_ns)
    if _LIKE_ADDRESS.fullmatch(text):
        raise WhoisError(f"`{text}` is no address; write one like `10.1.2.3`, no range or port")
    namespace, slash, name = text.rpartition("/")
    if not name or (slash and not namespace) or "/" in namespace:
        raise WhoisError(
            f"`{text}` is no address, name or cookie; write `10.1.2.3`, `shop/web-0` or `web-0`"
        )
    return Asked(None, None, namespace if slash else None, name, at_ns)


class Explainer:
    """Answers from the sources of ``resolver``; ``socket`` finds a local socket by its cookie, and
    says in a few words where it is.
    """

    def __init__(
        self, resolver: Resolver, socket: Callable[[int], tuple[Socket, str] | None]
    ) -> None:
        self._resolver = resolver
        self._socket = socket

    def __call__(self, asked: Asked) -> list[Claim]:
        """All that anybody says, what is true first, at most ``MOST_CLAIMS``."""
        if asked.address is not None:
            claims = self._resolver.explain(asked.address, asked.at_ns)
        elif asked.cookie is not None:
            claims = self._of_socket(asked.cookie)
        else:
            claims = self._resolver.explain_name(asked.namespace, asked.name, asked.at_ns)
        return sorted(claims, key=lambda claim: not claim.accepted)[:MOST_CLAIMS]

    def _of_socket(self, cookie: int) -> list[Claim]:
        found = self._socket(cookie)
        if found is None:
            return []
        socket, where = found
        claims: list[Claim] = []
        for source in self._resolver.sources:
            who = source.by_socket(socket)
            if who is not None:
                reason = f"asked later than {claims[0].source}" if claims else where
                claims.append(Claim(source.name, None, who, BEGINNING, END, not claims, reason))
        return claims


def document(query: str, asked: Asked, claims: Sequence[Claim]) -> dict[str, Any]:
    """The answer as JSON-ready values."""
    return {
        "query": query,
        "at": time_text(asked.at_ns),
        "claims": [_row(claim) for claim in claims],
    }


def _row(claim: Claim) -> dict[str, Any]:
    row: dict[str, Any] = {"accepted": claim.accepted, "source": claim.source}
    if claim.address is not None:
        row["address"] = ip_text(claim.address)
    if claim.endpoint is not None:
        table = {f"src_{name}": [value] for name, value in claim.endpoint._asdict().items()}
        named = next(row_dicts(table, 1))
        row |= {name.removeprefix("src_"): value for name, value in named.items()}
        row.pop("identity_source", None)
    if claim.start_ns > 0:
        row["since"] = time_text(claim.start_ns)
    if claim.end_ns != END:
        row["until"] = time_text(max(0, claim.end_ns))
    return row | {"reason": claim.reason}
