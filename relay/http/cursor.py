"""The order of records, and the place in it where an answer ended.

Records are ordered by time, then kind (by number: an opening comes before what happened in the
same nanosecond), then a hash of the whole record. So the order is the same in memory and in the
store, and what is stored meanwhile does not move anything.
"""

from __future__ import annotations

import binascii
import hashlib
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flowobs.rows import time_text
from flowobs.schema import Kind
from flowobs.times import parse_rfc3339
from relay.lines import TIME_END

_KIND_AT = TIME_END + len(b',"kind":"')
_RANKS = {kind.name.encode(): int(kind) for kind in Kind}
_HEAD = len(b'{"time":"')
_FORM = struct.Struct(">B?qB8sI")
_VERSION = 1


class Place(NamedTuple):
    """Where a record stands in the order."""

    time: bytes
    """RFC 3339 in nine decimals, which sorts as the time does."""
    kind: int
    digest: bytes


def place(line: bytes) -> Place:
    """Where a record's line stands. Lines that are equal stand at one place."""
    kind = line[_KIND_AT : line.index(b'"', _KIND_AT)]
    rank = _RANKS[kind] if kind in _RANKS else int(kind)
    digest = hashlib.blake2b(line, digest_size=8).digest()
    return Place(line[_HEAD : TIME_END - 1], rank, digest)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last record of an answer."""

    at: Place
    copies: int
    """How many records of that place were sent; equal ones cannot be told apart."""
    newest: bool
    """The answer went from newer to older records."""

    @classmethod
    def behind(cls, lines: Sequence[bytes], newest: bool, before: Cursor | None) -> Cursor:
        """The cursor behind ``lines`` (at least one), an answer that went on from ``before``."""
        at, copies = place(lines[-1]), 0
        for line in reversed(lines):
            if line != lines[-1]:
                break
            copies += 1
        if before is not None and before.at == at:
            copies += before.copies
        return cls(at, copies, newest)

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """What :attr:`text` gave. Raises ValueError."""
        try:
            raw = urlsafe_b64decode(text.encode("ascii"))
            version, newest, time_ns, kind, digest, copies = _FORM.unpack(raw)
        except (binascii.Error, struct.error, UnicodeEncodeError) as error:
            raise ValueError("no cursor") from error
        if version != _VERSION or time_ns < 0:
            raise ValueError("no cursor of this version")
        return cls(Place(time_text(time_ns).encode(), kind, digest), copies, newest)

    @property
    def text(self) -> str:
        """For a URL."""
        raw = _FORM.pack(
            _VERSION, self.newest, self.time_ns, self.at.kind, self.at.digest, self.copies
        )
        return urlsafe_b64encode(raw).decode()

    @property
    def time_ns(self) -> int:
        """Time of the record (UTC)."""
        ns = parse_rfc3339(self.at.time.decode())
        assert ns is not None
        return ns

    def ties(self, lines: Sequence[bytes]) -> int:
        """How many of ``lines`` have the same time."""
        return sum(line[_HEAD : TIME_END - 1] == self.at.time for line in lines)

    def beyond(self, lines: Sequence[bytes]) -> list[bytes]:
        """Those of ``lines`` that were not sent yet, in their order."""
        left, found = self.copies, []
        for line in lines:
            at = place(line)
            if at == self.at:
                if left:
                    left -= 1
                else:
                    found.append(line)
            elif (at < self.at) == self.newest:
                found.append(line)
        return found
