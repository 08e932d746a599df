"""One flow record as one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from flowobs import schema
from flowobs.cli.client import Row
from flowobs.cli.icmp import icmp_error, icmp_name
from flowobs.cli.text import clean, cut, cut_middle, duration, number, pad, paint, size, width

Style = dict[str, Any]
Cell = tuple[str, Style]

DIM: Style = {"dim": True}
LINE_STYLE: dict[str, Style] = {
    "drop": {"fg": "red"},
    "fail": {"fg": "red"},
    "icmp_error": {"fg": "red"},
    "reset": {"fg": "yellow"},
    "retransmit": {"fg": "yellow"},
}
KIND_STYLE: dict[str, Style] = {"open": {"fg": "green"}, "close": {"fg": "cyan"}, "update": DIM}
WIDEST = 60
"""Columns that one end of a flow may grow to."""
REPORTER = max(len(reporter.name) for reporter in schema.Reporter)


def json_line(row: Row) -> str:
    # Escaped to ASCII: the same line is safe in a pipe and on a terminal.
    return json.dumps(row, separators=(",", ":"))


class Lines:
    """Records as aligned lines. Columns grow with what has been seen.

    ``terminal`` gives the columns of the terminal, or is None in a pipe. ``wide`` shows what fits
    in no terminal: where a record was seen, addresses beside names, processes.
    """

    def __init__(
        self, wide: bool, color: bool, terminal: Callable[[], int] | None, fields: list[str]
    ) -> None:
        self._wide = wide
        self._color = color
        self._terminal = terminal
        self._fields = fields
        self._widths = {"reporter": REPORTER} if wide else {}
        self._day = datetime.now().date()

    def __call__(self, row: Row) -> str:
        if self._fields:
            values = [self._grow(name, field(row, name)) for name in self._fields]
            return self._join([("  ".join(values).rstrip(), {})])
        day, time = self._time(row)
        return day + self._join([(time + " ", DIM), *self._cells(row)])

    def _time(self, row: Row) -> tuple[str, str]:
        text = clean(row.get("time", "-"))
        if self._terminal is None:
            return "", text
        try:
            local = datetime.fromisoformat(text).astimezone()
        except (ValueError, OverflowError):
            return "", text
        day = "" if local.date() == self._day else f"-- {local:%A, %d %B %Y} --\n"
        self._day = local.date()
        return day, f"{local:%H:%M:%S}.{local.microsecond // 1000:03d}"

    def _cells(self, row: Row) -> list[Cell]:
        kind = clean(row.get("kind", "?"))
        style = LINE_STYLE.get(kind, {})
        ends = (
            self._end(row, "src"),
            " <- " if row.get("reply") else " -> ",
            self._end(row, "dst"),
        )
        cells: list[Cell] = []
        if self._wide:
            where = (field(row, "node"), _place(row), field(row, "reporter"))
            for name, text in zip(("node", "place", "reporter"), where, strict=True):
                cells.append((self._grow(name, text) + " ", DIM))
        cells += [(text, style) for text in ends]
        cells.append((f" {self._grow('proto', clean(row.get('proto', '?')), 8)} ", style or DIM))
        cells.append((self._grow("kind", kind, 10) + " ", style or KIND_STYLE.get(kind, {})))
        cells.append((detail(row, self._wide), style))
        return cells

    def _end(self, row: Row, side: str) -> str:
        name, port = endpoint(row, side)
        if self._wide:
            if name != (address := address_text(row, side)):
                name += f"({address})"
            return self._grow(side, name + port + process(row, side), limit=2 * WIDEST)
        limit = WIDEST
        if self._terminal is not None:
            # What stands beside the ends takes about 60 columns in the longest line, a close.
            limit = max(16, min(WIDEST, (self._terminal() - 60) // 2))
        return self._grow(side, cut_middle(name, limit - len(port)) + port, limit)

    def _grow(self, column: str, text: str, limit: int = WIDEST) -> str:
        self._widths[column] = min(limit, max(self._widths.get(column, 0), width(text)))
        return pad(text, self._widths[column])

    def _join(self, cells: list[Cell]) -> str:
        left = None if self._wide or self._terminal is None else self._terminal()
        line = []
        for style, group in groupby(cells, key=itemgetter(1)):
            text = "".join(text for text, _ in group)
            if left is not None:
                text = cut(text, left)
                left -= width(text)
            line.append(paint(text, self._color and bool(text), **style))
        return "".join(line).rstrip()


def field(row: Row, name: str) -> str:
    return clean(row.get(name, "-"))


def _place(row: Row) -> str:
    """The interface; of what has none, the network namespace, as ``lsns -t net`` has it."""
    if "interface" not in row and "netns" in row:
        return f"netns:{clean(row['netns'])}"
    return field(row, "interface")


def address_text(row: Row, side: str) -> str:
    address = clean(row.get(f"{side}_ip", "?"))
    return f"[{address}]" if ":" in address else address


def endpoint(row: Row, side: str) -> tuple[str, str]:
    """Name (or address) and ``:port`` of one end; ``?`` behind a name that may be out of date."""
    name = row.get(f"{side}_name")
    if name:
        name = clean(name)
        if namespace := row.get(f"{side}_namespace"):
            name = f"{clean(namespace)}/{name}"
        elif row.get(f"{side}_kind") == "host" and (workload := row.get(f"{side}_workload")):
            name = f"{name}/{clean(workload)}"
        if number(row, f"{side}_identity_age"):
            name += "?"
    # ICMP has the echo identifier there.
    port = 0 if str(row.get("proto")).startswith("icmp") else number(row, f"{side}_port")
    return name or address_text(row, side), f":{port}" if port else ""


def process(row: Row, side: str) -> str:
    name, pid = row.get(f"{side}_process"), number(row, f"{side}_pid")
    return f" ({clean(name or '?')}/{pid})" if name or pid else ""


def detail(row: Row, wide: bool = False) -> str:
    """What is to say about this kind of record."""
    parts: list[str] = []
    kind = row.get("kind")
    if kind in ("open", "retransmit", "reset"):
        parts = [icmp_name(row), flags(number(row, "tcp_flags") | number(row, "reply_tcp_flags"))]
    elif kind == "update":
        parts = [icmp_name(row), counters(row), health(row, wide)]
    elif kind == "close":
        reason = clean(row.get("close_reason", ""))
        took = number(row, "duration")
        lasted = duration(took) if took else ""
        parts = [icmp_name(row), reason, lasted, counters(row), health(row, wide)]
    elif kind == "drop":
        parts = [icmp_name(row), clean(row.get("drop_reason", "unknown")), "(dropped)"]
    elif kind == "fail":
        parts = [clean(row.get("close_reason", ""))]
    elif kind == "icmp_error":
        parts = [f"icmp error: {icmp_error(row)}", f"(from {clean(row.get('icmp_ip', '?'))})"]
    parts.append(translated(row, wide))
    if tunnel := row.get("tunnel"):
        parts.append(wrapping(row, clean(tunnel), wide))
    if held_back := number(row, "lost"):
        parts.append(f"(+{held_back:,} alike)")
    age = max(number(row, "src_identity_age"), number(row, "dst_identity_age"))
    if wide and age:
        parts.append(f"(names {duration(age * 1e9)} old)")
    return " ".join(filter(None, parts))


def translated(row: Row, wide: bool) -> str:
    """What the source asked for, and where there is room for it, what the destination sees."""
    parts = []
    for end, word, shown in (("virtual", "via", True), ("snat", "seen as", wide)):
        if shown and f"{end}_ip" in row:
            port = 0 if str(row.get("proto")).startswith("icmp") else number(row, f"{end}_port")
            parts.append(f"{word} {address_text(row, end)}" + (f":{port}" if port else ""))
    return " ".join(parts)


def wrapping(row: Row, tunnel: str, wide: bool) -> str:
    """What the packets were in, such as ``in vxlan 42``; wide: and between whom."""
    text = f"in {tunnel} {number(row, 'tunnel_id') or ''}".rstrip()
    if wide and (source := row.get("tunnel_src_ip")):
        text += f" {clean(source)} -> {clean(row.get('tunnel_dst_ip', '?'))}"
    return text


def flags(bits: int) -> str:
    return ",".join(name for i, name in enumerate(schema.TCP_FLAGS) if bits >> i & 1)


def counters(row: Row) -> str:
    packets, reply = number(row, "packets"), number(row, "reply_packets")
    return f"{packets}/{reply} pkts {size(number(row, 'bytes'), number(row, 'reply_bytes'))}"


def health(row: Row, wide: bool) -> str:
    """How a TCP connection did: trouble always, times where there is room for them."""
    parts = []
    if wide and (connect := number(row, "connect_ns")):
        parts.append(f"connect {duration(connect)}")
    if wide and (rtt := round_trip(row)):
        parts.append(f"rtt {duration(rtt)}")
    for name, word in (("retransmits", "retransmits"), ("zero_windows", "zero windows")):
        there, back = number(row, name), number(row, f"reply_{name}")
        if there or back:
            parts.append(f"{there}/{back} {word}")
    return " ".join(parts)


def round_trip(row: Row) -> int:
    """The smoothed RTT of the source's socket, else the destination's, else the handshake's: ns."""
    smoothed = number(row, "src_srtt_us") or number(row, "dst_srtt_us")
    return smoothed * 1000 or number(row, "src_rtt_ns") + number(row, "dst_rtt_ns")
