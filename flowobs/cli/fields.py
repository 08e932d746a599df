"""``flows fields``: what can be asked for and shown."""

from __future__ import annotations

import json
import sys

from flowobs import schema
from flowobs.cli.output import use_color
from flowobs.cli.text import columns, paint


def show(output: str | None, color: str) -> None:
    tty = sys.stdout.isatty()
    if (output or ("table" if tty else "json")) == "json":
        for column in schema.COLUMNS:
            found = {"field": column.name, "unit": column.unit, "meaning": column.doc}
            values = {"values": names} if (names := _values(column)) else {}
            print(json.dumps(found | values, separators=(",", ":")))
    else:
        print("\n".join(lines(use_color(color, tty))))


def lines(color: bool) -> list[str]:
    """A line for each field: its name, its unit, what it means and which values it may have."""
    table = [["FIELD", "UNIT", "MEANING"]]
    for column in schema.COLUMNS:
        names = ", ".join(_values(column))
        table.append([column.name, column.unit, column.doc + (f": {names}" if names else "")])
    head, *rest = columns(table)
    return [paint(head, color, bold=True), *rest]


def _values(column: schema.Column) -> list[str]:
    return [] if column.enum is None else [member.name for member in column.enum]
