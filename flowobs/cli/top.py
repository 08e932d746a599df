"""The largest groups of a measure, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowobs.cli.client import Row
from flowobs.cli.map import is_bad, least_loss, trouble
from flowobs.cli.measured import (
    amount,
    head_of,
    keys_of,
    moment,
    name_of,
    note,
    nothing_known,
    room,
    rows_of,
    show,
    title,
    uncovered,
)
from flowobs.cli.text import clean, columns, fitting, number, paint, size

_NUMBERS = (
    "value", "share", "flows", "opens", "packets", "bytes", "reply_packets", "reply_bytes",
    "drops", "fails", "resets", "retransmits", "connect_ms", "connect_p95_ms", "connect_p99_ms",
    "rtt_ms", "rtt_p95_ms", "rtt_p99_ms", "first_seen", "last_seen", "path_loss",
)  # fmt: skip
"""Cells of CSV, besides what a row is of."""


def print_top(found: Row, output: str | None, color: str) -> None:
    show(found, output, color, text, table)


def table(found: Row) -> Iterator[list[Any]]:
    """Rows of CSV, their head first."""
    by = found.get("by")
    yield [*head_of(by), *_NUMBERS]
    for row in rows_of(found, "rows"):
        yield [*keys_of(row, by), *(row.get(name) for name in _NUMBERS)]


def text(found: Row, color: bool) -> Iterator[str]:
    """Lines for a terminal."""
    rows, measure = rows_of(found, "rows"), found.get("measure")
    new = "new_since" in found
    if new and found["new_since"] is None:
        since = moment(found.get("from"))
        yield note(f"nothing is stored from before {since}: what is new cannot be told", color)
        return
    if rows:
        least = least_loss(found)
        head = [
            clean(found.get("by")).upper(),
            title(measure).upper(),
            "SHARE",
            "FLOWS",
            "OUT/BACK",
            "TROUBLE" if any(trouble(row, least) for row in rows) else "",
        ]
        cells = fitting(
            lambda most: [head, *(_cells(row, measure, most, least) for row in rows)], 0, room()
        )
        first, *rest = columns(cells, right=frozenset({1, 2, 3}))
        yield paint(first, color, bold=True)
        for line, row in zip(rest, rows, strict=True):
            yield paint(line, color and is_bad(row, least), fg="red")
    else:
        yield nothing_known(found, "nothing new" if new else f"no {title(measure)}", color)
    other = found.get("other")
    if isinstance(other, dict) and number(other, "count"):
        value = other.get("value")
        much = f", {amount(value, measure)} ({_share(other)})" if value is not None else ""
        yield note(f"{number(other, 'count'):,} more{much}; --limit shows them", color)
    if found.get("more"):
        yield note("there are more than the relay looks at; narrow the question", color)
    if new:
        yield note(
            f"not seen from {moment(found['new_since'])} to {moment(found.get('from'))}", color
        )
    yield from uncovered(found, color)


def _cells(row: Row, measure: object, most: int, least: float) -> list[str]:
    return [
        name_of(row, most),
        amount(row.get("value"), measure),
        _share(row),
        f"{number(row, 'flows'):,}",
        size(number(row, "bytes"), number(row, "reply_bytes")),
        trouble(row, least),
    ]


def _share(row: Row) -> str:
    share = row.get("share")
    return f"{share:.1%}" if isinstance(share, int | float) else "-"
