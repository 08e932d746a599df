"""Texts for a terminal: sizes, times, names cut in the middle, and nothing that could harm it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import click

_BEFORE = 50
_AFTER = 25
"""Columns that are shown of a question before and behind what is wrong with it."""
_ANY = 1 << 20
_LEAST = 36
"""A name is not cut below this: then lines rather wrap."""


def clean(value: object) -> str:
    """``value`` as printable text: control characters, direction marks ... become \\x1b."""
    text = value if isinstance(value, str) else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def width(text: str) -> int:
    """Columns that ``text`` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def pad(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def cut(text: str, columns: int) -> str:
    """``text`` in at most ``columns``, its end replaced by an ellipsis."""
    if width(text) <= columns:
        return text
    return _head(text, columns - 1) + "…" if columns > 0 else ""


def cut_middle(text: str, columns: int) -> str:
    """``text`` in at most ``columns``: names differ at their ends, so the middle goes."""
    if width(text) <= columns:
        return text
    tail = _head(text[::-1], (columns - 1) // 2)[::-1]
    return f"{_head(text, columns - 1 - width(tail))}…{tail}"


def pointed(question: str, column: object) -> str:
    """Two lines to put below a sentence: the question, and a mark below ``column`` (from 1)."""
    if not isinstance(column, int) or not 1 <= column <= len(question) + 1:
        return ""
    before, after = clean(question[: column - 1]), clean(question[column - 1 :])
    if width(before) > _BEFORE:
        before = "…" + _head(before[::-1], _BEFORE - 1)[::-1]
    return f"\n  {before}{cut(after, _AFTER)}\n  {' ' * width(before)}^"


def _head(text: str, columns: int) -> str:
    used = 0
    for i, char in enumerate(text):
        used += width(char)
        if used > columns:
            return text[:i]
    return text


def number(row: dict[str, Any], key: str) -> int:
    """A whole number of ``row``; 0 where it is left out or is none."""
    value = row.get(key, 0)
    return value if isinstance(value, int) and 0 <= value < 1 << 64 else 0


def size(*values: int) -> str:
    """Bytes with one unit for all: ``1.2/9.0 kB``."""
    top = max(values)
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if top >= unit:
            return "/".join(f"{v / unit:.1f}" for v in values) + f" {name}"
    return "/".join(str(v) for v in values) + " B"


def duration(ns: float) -> str:
    seconds = ns / 1e9
    for limit, name in ((1e-6, "ns"), (1e-3, "us"), (1.0, "ms")):
        if seconds < limit:
            return f"{seconds / limit * 1000:.0f} {name}"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 60:
        return _both(minutes, "min", seconds % 60, "s")
    if hours < 24:
        return _both(hours, "h", minutes % 60, "min")
    return _both(days, "d", hours % 24, "h")


def latency(ms: float) -> str:
    """Three digits: ``80.9 us``, ``3.52 ms``."""
    if ms >= 999.5:
        value, unit = ms / 1000, "s"
    elif ms >= 0.9995 or not ms:
        value, unit = ms, "ms"
    else:
        value, unit = ms * 1000, "us"
    return (f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}") + f" {unit}"


def _both(large: float, unit: str, small: float, smaller: str) -> str:
    rest = f"{small:.0f}"
    return f"{large:.0f} {unit}" + (f" {rest} {smaller}" if rest != "0" else "")


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def counted(count: int, things: str) -> str:
    """The same of a word that is a plural already, as resources are called."""
    one = f"{things[:-3]}y" if things.endswith("ies") else things.removesuffix("s")
    return f"{count:,} {one if count == 1 else things}"


def fitting(make: Callable[[int], list[list[str]]], at: int, room: int | None) -> list[list[str]]:
    """Rows that ``make`` makes with names in column ``at`` of so many columns at most: as many as
    leave lines of ``room`` columns, None for all of them."""
    rows = make(_ANY)
    if room is None or not rows:
        return rows
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    over = sum(widths) + 2 * (len(widths) - 1) - room
    return make(max(_LEAST, widths[at] - over)) if over > 0 else rows


def columns(rows: list[list[str]], right: frozenset[int] = frozenset()) -> list[str]:
    """Aligned lines; the columns in ``right`` are numbers."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            " " * (w - width(cell)) + cell if i in right else pad(cell, w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def paint(text: str, color: bool, **style: Any) -> str:
    return click.style(text, **style) if color and style else text
