"""Measures over time, as sparklines."""

from __future__ import annotations

import shutil
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
    rows_of,
    show,
    title,
    uncovered,
)
from flowobs.cli.text import columns, duration, number, paint, width

_BARS = "▁▂▃▄▅▆▇█"
_NUMBERS_WIDTH = 45
"""Columns that minimum, mean, maximum and last take."""
_LEAST = 20

Values = list[float | None]


def print_series(found: Row, output: str | None, color: str) -> None:
    show(found, output, color, text, table)


def table(found: Row) -> Iterator[list[Any]]:
    """Rows of CSV, one a point, their head first."""
    by = found.get("by")
    yield ["at", *head_of(by), str(found.get("measure"))]
    for row in rows_of(found, "series"):
        name = ["other", *[""] * (len(head_of(by)) - 1)] if row.get("other") else keys_of(row, by)
        if by == "total":
            name = ["total"]
        for at, value in zip(found.get("at") or [], row.get("values") or [], strict=False):
            yield [at, *name, "" if value is None else value]


def text(found: Row, color: bool) -> Iterator[str]:
    """Lines for a terminal: all bars have one scale."""
    rows, measure = rows_of(found, "series"), found.get("measure")
    values = [_values(row) for row in rows]
    if not any(v for line in values for v in line):
        yield nothing_known(found, f"no {title(measure)}", color)
        yield from uncovered(found, color)
        return
    screen = shutil.get_terminal_size().columns
    names = [name_of(row, max(_LEAST, screen // 3)) for row in rows]
    bars = max(_LEAST, screen - max(map(width, names)) - _NUMBERS_WIDTH)
    top = max(v for line in values for v in line if v is not None)
    cells = [["", "", "MIN", "MEAN", "MAX", "LAST"]]
    for name, line in zip(names, values, strict=True):
        known = [v for v in line if v is not None] or [0.0]
        numbers = min(known), sum(known) / len(known), max(known), line[-1] if line else None
        cells.append(
            [name, spark(line, top, bars), *(amount(number, measure) for number in numbers)]
        )
    first, *rest = columns(cells, right=frozenset({2, 3, 4, 5}))
    yield paint(first, color, bold=True)
    yield from rest
    step = duration(number(found, "step_s") * 1e9)
    yield note(
        f"{title(measure)} in steps of {step}, {moment(found.get('from'))} to"
        f" {moment(found.get('to'))}, highest bar {amount(top, measure)}",
        color,
    )
    yield from uncovered(found, color)


def spark(values: Values, top: float, most: int) -> str:
    """A bar for each value, or for the largest of several where there are more than ``most``."""
    each = -(-len(values) // most) if values else 1
    bars = ""
    for i in range(0, len(values), each):
        known = [v for v in values[i : i + each] if v is not None]
        if not known:
            bars += " "
        else:
            share = max(known) / top if top else 0
            bars += _BARS[min(len(_BARS) - 1, max(0, int(share * len(_BARS))))]
    return bars


def _values(row: Row) -> Values:
    values = row.get("values")
    if not isinstance(values, list):
        return []
    return [v if isinstance(v, int | float) and v >= 0 else None for v in values]
