"""What ``flows top``, ``flows series`` and ``flows diff`` have in common."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import Any

from flowobs.cli.client import Row
from flowobs.cli.output import use_color
from flowobs.cli.text import clean, cut_middle, latency, paint, size, width
from flowobs.measures import COUNTS


def show(
    found: Row,
    output: str | None,
    color: str,
    text: Callable[[Row, bool], Iterable[str]],
    table: Callable[[Row], Iterable[list[Any]]],
) -> None:
    """``found`` as JSON, as CSV (``table``, its head first), or on a terminal as ``text``."""
    tty = sys.stdout.isatty()
    if output == "json" or (output is None and not tty):
        print(json.dumps(found, separators=(",", ":")))
    elif output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows(table(found))
    else:
        for line in text(found, use_color(color, tty)):
            print(line)


def rows_of(found: Row, name: str) -> list[Row]:
    """The objects of an answer's list."""
    rows = found.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def name_of(row: Row, most: int) -> str:
    """Whose numbers a row has, an edge, an end, the others, or all, in ``most`` columns."""
    if row.get("other"):
        return "other"
    for by in ("end", "destination", "source"):
        if by in row and not ("source" in row and "destination" in row):
            return cut_middle(clean(row[by]), most)
    if "source" not in row:
        return "total"
    port = row.get("port")
    rest = (f":{clean(port)}" if port else "") + f" {clean(row.get('proto', ''))}".rstrip()
    source, destination = clean(row["source"]), clean(row["destination"])
    left = max(2, most - len(" -> ") - width(rest))
    source = cut_middle(source, max(left // 2, left - width(destination)))
    return f"{source} -> {cut_middle(destination, left - width(source))}{rest}"


def room() -> int | None:
    """Columns of the terminal; None in a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def keys_of(row: Row, by: object) -> list[Any]:
    """The same as cells of CSV."""
    return [row.get(name, "") for name in head_of(by)]


def head_of(by: object) -> list[str]:
    """The names of these cells."""
    return ["source", "destination", "proto", "port"] if by == "edge" else [str(by)]


def amount(value: object, measure: object) -> str:
    """``value`` with its unit, where that is not the measure."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "-"
    if measure in ("bytes", "rate"):
        return size(round(value)) + "/s" * (measure == "rate")
    if measure in COUNTS:
        return f"{value:,.0f}"
    return latency(value)


def title(measure: object) -> str:
    """A measure's name where its values have their own units."""
    return clean(measure).removesuffix("_ms")


def moment(value: object) -> str:
    """A time of an answer, to the second."""
    text = clean(value)
    return text[:19] + "Z" if len(text) > 20 and text[19] == "." else text


def note(text: str, color: bool) -> str:
    return paint(f"-- {clean(text)} --", color, dim=True)


def nothing_known(found: Row, what: str, color: bool) -> str:
    """A line for an answer without rows."""
    return note(f"{what} between {moment(found.get('from'))} and {moment(found.get('to'))}", color)


def uncovered(found: Row, color: bool) -> list[str]:
    """A line that says so when the store does not reach back."""
    since, begin = found.get("covered_from"), found.get("from")
    if since is None:
        return [note(f"nothing is stored from before {moment(found.get('to'))}", color)]
    return [note(f"the store begins at {moment(since)}", color)] if since != begin else []
