"""What changed between two stretches of time, a line a change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowobs.cli.client import Row
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
)
from flowobs.cli.text import clean, columns, fitting, number, paint
from flowobs.measures import LATENCIES

_STYLES = {"new": "green", "maybe_new": "green", "vanished": "yellow"}
_MARKS = {"new": "+ new", "maybe_new": "? maybe new", "vanished": "- vanished", "changed": "~"}


def print_diff(found: Row, output: str | None, color: str) -> None:
    show(found, output, color, text, table)


def table(found: Row) -> Iterator[list[Any]]:
    """Rows of CSV, one a measure that changed, their head first."""
    by = found.get("by")
    yield [*head_of(by), "change", "measure", "before", "after", "difference", "factor"]
    for row in rows_of(found, "changes"):
        for name, pair in _measures(row):
            numbers = (pair.get(key) for key in ("before", "after", "difference", "factor"))
            yield [*keys_of(row, by), row.get("change"), name, *numbers]


def text(found: Row, color: bool) -> Iterator[str]:
    """Lines for a terminal."""
    rows = rows_of(found, "changes")
    before = found["before"] if isinstance(found.get("before"), dict) else {}
    begin, end, reach = moment(before.get("from")), moment(before.get("to")), before.get("covered")
    if reach == "none":
        yield note(f"nothing is stored from {begin} to {end}: there is nothing to compare", color)
        return
    if rows:
        lines = columns(fitting(lambda most: [_cells(row, most) for row in rows], 1, room()))
        for line, row in zip(lines, rows, strict=True):
            yield paint(line, color, fg=_style(row))
    else:
        yield nothing_known(found, "no change", color)
    more = number(found, "count") - len(rows)
    if more > 0:
        yield note(f"{more:,} changes of less importance; --limit shows them", color)
    if found.get("more"):
        yield note("there is more than the relay compares; narrow the question", color)
    yield note(f"compared with {begin} to {end}", color)
    if reach == "part":
        since = moment(before.get("covered_from"))
        yield note(f"the store begins at {since}: what seems new may be older", color)


def _cells(row: Row, most: int) -> list[str]:
    measures = sorted(_measures(row), key=lambda one: one[0] in ("packets", "opens"))
    return [
        _MARKS.get(clean(row.get("change")), "?"),
        name_of(row, most),
        ", ".join(
            f"{title(name)} {_told(name, pair, row.get('change'))}"
            for name, pair in measures
            if name != "packets"
        ),
    ]


def _told(name: str, pair: Row, change: object) -> str:
    """`1.2 kB/s -> 9.0 kB/s (x7.5)`; of a new edge what there is, of a vanished one what was."""
    before, after = (_amount(pair.get(key), name) for key in ("before", "after"))
    if change == "vanished":
        return before
    if change in ("new", "maybe_new"):
        return after
    factor = pair.get("factor")
    if not isinstance(factor, int | float) or factor <= 0:
        return f"{before} -> {after}"
    times = f"x{factor:.3g}" if factor >= 1 else f"/{1 / factor:.3g}"
    return f"{before} -> {after} ({times})"


def _amount(value: object, name: str) -> str:
    if name in LATENCIES or not isinstance(value, int | float):
        return amount(value, name)
    if name == "bytes":
        return amount(value, "rate")
    return (f"{value:,.0f}" if value >= 10 else f"{value:.2g}") + "/s"


def _measures(row: Row) -> list[tuple[str, Row]]:
    measures = row.get("measures")
    pairs = measures.items() if isinstance(measures, dict) else ()
    return [(name, pair) for name, pair in pairs if isinstance(pair, dict)]


def _style(row: Row) -> str | None:
    worse = any(
        isinstance(pair.get("difference"), int | float) and pair["difference"] > 0
        for name, pair in _measures(row)
        if name in ("drops", "fails", "resets", "retransmits") or name in LATENCIES
    )
    return "red" if worse else _STYLES.get(clean(row.get("change")))
