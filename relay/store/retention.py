"""How long each table keeps what it has, by time and by size; and the parts that have to go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from relay.store import ddl
from relay.store.rollup import ENDS, HOURS, MINUTES

_DAY: Final = 86_400
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": _DAY, "w": 7 * _DAY, "y": 365 * _DAY}
_SIZES: Final = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_TABLES: Final = {"flows": ddl.TABLE, MINUTES.label: MINUTES.name, HOURS.label: HOURS.name}


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds by table, and the bytes of all tables together (None: no limit)."""

    seconds: dict[str, int]
    max_bytes: int | None = None
    text: str = ""
    """For people: as it was given."""

    @classmethod
    def parse(cls, text: str = "3d", max_disk: str | None = None) -> Retention:
        """From ``3d`` (records) or ``flows=3d,1m=30d,1h=1y``, and ``20GB``. Raises ValueError."""
        seconds = {ddl.TABLE: 3 * _DAY, MINUTES.name: 30 * _DAY, HOURS.name: 365 * _DAY}
        given: set[str] = set()
        for part in text.split(","):
            name, equals, length = part.strip().rpartition("=")
            table = _TABLES.get(name if equals else "flows")
            if table is None:
                raise ValueError(
                    f"retention {text!r}: there is no table {name!r}; write it like"
                    " 3d or flows=3d,1m=30d,1h=1y"
                )
            if table in given:
                raise ValueError(
                    f"retention {text!r} names {table!r} twice; write it like flows=3d"
                )
            given.add(table)
            seconds[table] = _seconds(length)
        # Rows of ends are of whole days, and needed as long as rollups are.
        seconds[ENDS] = max(seconds[MINUTES.name], seconds[HOURS.name]) + _DAY
        if max_disk is None:
            return cls(seconds, None, text)
        return cls(seconds, _bytes(max_disk), f"{text}, at most {max_disk}")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a table: as little as can be dropped. Times are seconds since 1970."""

    table: str
    name: str
    bytes: int
    newest: int


def doomed(
    parts: Sequence[Part], retention: Retention, now: float, passing: int = 0
) -> Iterator[tuple[Part, str]]:
    """What has to go, and why (``time`` or ``size``).

    For size the records go first, oldest before newer ones, then the rollups; each table keeps its
    newest part, which is being written. ``passing`` are bytes that the disk has besides for a
    while: records make room for them, rollups do not.
    """
    kept: list[Part] = []
    for part in parts:
        if part.newest < now - retention.seconds[part.table]:
            yield part, "time"
        else:
            kept.append(part)
    if retention.max_bytes is None:
        return
    over = sum(part.bytes for part in kept) - retention.max_bytes
    for table in (*_TABLES.values(), ENDS):
        own = sorted((p for p in kept if p.table == table), key=lambda p: (p.newest, p.name))
        for part in own[:-1]:
            if over + (passing if table == ddl.TABLE else 0) <= 0:
                break
            over -= part.bytes
            yield part, "size"


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d{1,6})([smhdwy])", text)
    if not found or not int(found[1]):
        raise ValueError(
            f"retention {text!r} is not a length of time: write it like 3d, 12h or 90m"
        )
    return int(found[1]) * _UNITS[found[2]]


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d{1,6})\s?([KMGT])B?", text, re.I)
    if not found or not int(found[1]):
        raise ValueError(f"--max-disk {text!r} is not a size: write it like 500MB or 20GB")
    return int(found[1]) * _SIZES[found[2].upper()]
