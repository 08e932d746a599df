"""The service map as a tree: who called, and below it whom."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import Any

from flowobs.cli.client import Row
from flowobs.cli.measured import nothing_known, room, uncovered
from flowobs.cli.output import use_color
from flowobs.cli.text import clean, columns, cut_middle, fitting, number, paint, plural, size, width

TROUBLES = ("drops", "fails", "resets", "retransmits")


def show(found: Row, output: str | None, color: str) -> None:
    tty = sys.stdout.isatty()
    if (output or ("tree" if tty else "json")) == "json":
        print(json.dumps(found, separators=(",", ":")))
        return
    edges = [edge for edge in found.get("edges") or [] if isinstance(edge, dict)]
    paints = use_color(color, tty)
    lines = tree(edges, paints, room()) or [nothing_known(found, "nobody talked", paints)]
    for line in (*lines, *uncovered(found, paints)):
        print(line)


def tree(edges: list[dict[str, Any]], color: bool, room: int | None = None) -> list[str]:
    """Callers by their bytes, their edges by theirs; numbers are aligned over the whole tree.

    ``room``: columns of the terminal.
    """
    calls: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for edge in edges:
        calls[clean(edge.get("source"))].append(edge)
    by_bytes = sorted(calls.items(), key=lambda call: (-sum(map(_bytes, call[1])), call[0]))
    order = [(name, sorted(below, key=_bytes, reverse=True)) for name, below in by_bytes]
    edges = [edge for _, below in order for edge in below]
    left = room and room - len("|- ")
    cells = fitting(lambda most: [_cells(edge, most) for edge in edges], 0, left)
    texts = iter(columns(cells, right=frozenset({1})) if cells else [])
    lines = []
    for name, below in order:
        lines.append(paint(name, color, bold=True))
        for i, edge in enumerate(below):
            branch = "`- " if i == len(below) - 1 else "|- "
            bad = bool(number(edge, "drops") or number(edge, "fails"))
            lines.append(branch + paint(next(texts), color and bad, fg="red"))
    return lines


def _bytes(edge: dict[str, Any]) -> int:
    return number(edge, "bytes") + number(edge, "reply_bytes")


def _cells(edge: dict[str, Any], most: int) -> list[str]:
    port = number(edge, "port")
    rest = (f":{port}" if port else "") + f" {clean(edge.get('proto'))}"
    return [
        cut_middle(clean(edge.get("destination")), max(1, most - width(rest))) + rest,
        plural(number(edge, "flows"), "flow"),
        size(number(edge, "bytes"), number(edge, "reply_bytes")),
        ", ".join(_trouble(edge, name) for name in TROUBLES if number(edge, name)),
    ]


def _trouble(edge: dict[str, Any], name: str) -> str:
    text = plural(number(edge, name), name.removesuffix("s"))
    reasons = edge.get("drop_reasons")
    if name == "drops" and isinstance(reasons, dict) and reasons:
        text += f" ({', '.join(map(clean, reasons))})"
    return text
