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
from flowobs.times import parse_rfc3339

_TROUBLES = ("drops", "fails", "resets", "retransmits")
_APART_NS = 3 * 10**9
"""Of so much of the time one end's agent may have told and the other's not."""


def show(found: Row, output: str | None, color: str) -> None:
    tty = sys.stdout.isatty()
    if (output or ("tree" if tty else "json")) == "json":
        print(json.dumps(found, separators=(",", ":")))
        return
    edges = [edge for edge in found.get("edges") or [] if isinstance(edge, dict)]
    paints = use_color(color, tty)
    lines = tree(edges, paints, room(), least_loss(found)) or [
        nothing_known(found, "nobody talked", paints)
    ]
    for line in (*lines, *uncovered(found, paints)):
        print(line)


def tree(
    edges: list[dict[str, Any]], color: bool, room: int | None = None, least: float = 1.0
) -> list[str]:
    """Callers by their bytes, their edges by theirs; numbers are aligned over the whole tree.

    ``room``: columns of the terminal; ``least``: a loss on the path is told from this share on.
    """
    calls: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for edge in edges:
        calls[clean(edge.get("source"))].append(edge)
    by_bytes = sorted(calls.items(), key=lambda call: (-sum(map(_bytes, call[1])), call[0]))
    order = [(name, sorted(below, key=_bytes, reverse=True)) for name, below in by_bytes]
    edges = [edge for _, below in order for edge in below]
    left = room and room - len("|- ")
    cells = fitting(lambda most: [_cells(edge, most, least) for edge in edges], 0, left)
    texts = iter(columns(cells, right=frozenset({1})) if cells else [])
    lines = []
    for name, below in order:
        lines.append(paint(name, color, bold=True))
        for i, edge in enumerate(below):
            branch = "`- " if i == len(below) - 1 else "|- "
            lines.append(branch + paint(next(texts), color and is_bad(edge, least), fg="red"))
    return lines


def _bytes(edge: dict[str, Any]) -> int:
    return number(edge, "bytes") + number(edge, "reply_bytes")


def least_loss(found: Row) -> float:
    """The share of packets from which on a loss on the path is more than the ends of the time."""
    span = [parse_rfc3339(str(found.get(name))) or 0 for name in ("from", "to")]
    return min(1.0, _APART_NS / max(1, span[1] - span[0]))


def trouble(edge: Row, least: float) -> str:
    """What went wrong, and why packets were dropped."""
    told = {n: plural(number(edge, n), n.removesuffix("s")) for n in _TROUBLES if number(edge, n)}
    reasons = edge.get("drop_reasons")
    if "drops" in told and isinstance(reasons, dict) and reasons:
        told["drops"] += f" ({', '.join(map(clean, reasons))})"
    return ", ".join(filter(None, (*told.values(), _loss(edge, least))))


def _loss(edge: Row, least: float) -> str:
    """How much of what one end's node sent did not arrive at the other's."""
    sent = number(edge, "sent_packets") + number(edge, "reply_sent_packets")
    share = number(edge, "path_loss") / max(1, sent)
    return f"{number(edge, 'path_loss'):,} lost on the path ({share:.1%})" if share > least else ""


def is_bad(edge: Row, least: float) -> bool:
    return bool(number(edge, "drops") or number(edge, "fails") or _loss(edge, least))


def _cells(edge: dict[str, Any], most: int, least: float) -> list[str]:
    port = number(edge, "port")
    rest = (f":{port}" if port else "") + f" {clean(edge.get('proto'))}"
    return [
        cut_middle(clean(edge.get("destination")), max(1, most - width(rest))) + rest,
        plural(number(edge, "flows"), "flow"),
        size(number(edge, "bytes"), number(edge, "reply_bytes")),
        trouble(edge, least),
    ]
