"""Where records go: a terminal, which is spared, or a pipe, which gets everything."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from flowobs.cli.client import Row
from flowobs.cli.once import OnePoint
from flowobs.cli.render import Lines, json_line
from flowobs.cli.text import clean, number, paint, plural

LINES_PER_S = 200
"""More than this is no longer read by a person, and slows the terminal down."""


def use_color(choice: str, tty: bool) -> bool:
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return tty and os.environ.get("TERM") != "dumb"


class Guard:
    """Lets ``limit`` lines a second through, and counts the others."""

    def __init__(
        self, limit: float, extra: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._until = clock() + 1
        self._left = limit + extra
        self._hidden = 0

    def allows(self) -> bool:
        if self._left > 0:
            self._left -= 1
            return True
        self._hidden += 1
        return False

    def hidden(self, now: bool = False) -> int:
        """Starts the next second if it is time (or ``now``); what was hidden in the last one."""
        if not now and self._clock() < self._until:
            return 0
        self._until = self._clock() + 1
        self._left = max(self._left, self._limit)
        hidden, self._hidden = self._hidden, 0
        return hidden


class Printer:
    """Writes records as the user asked for, notes beside them, and counts."""

    def __init__(
        self,
        format: str | None,
        fields: list[str] | None,
        color: str,
        limit: float = float("inf"),
        extra: int = 0,
    ) -> None:
        tty = sys.stdout.isatty()
        self._json = (format or ("compact" if tty else "json")) == "json"
        self._fields = fields or []
        self._notes = sys.stdout if tty and not self._json else sys.stderr
        self._note_color = use_color(color, self._notes.isatty())
        self._guard = Guard(float("inf") if self._json or not tty else limit, extra)
        self._line = Lines(
            format == "wide",
            use_color(color, tty),
            (lambda: shutil.get_terminal_size().columns) if tty else None,
            self._fields,
        )
        self._once = OnePoint() if not self._json and format != "wide" else None
        self._reader = select.poll()
        self._reader.register(sys.stdout, 0)
        self.matched = 0
        self.elsewhere = 0
        """Records not shown, because their flow is shown from another interface."""

    def rows(self, rows: list[Row]) -> None:
        self.tick()
        lines = []
        for row in rows:
            if row.get("kind") == "lost":
                if self._json:
                    lines.append(json_line(row))
                self._write(lines)
                lines = []
                self.note(lost_note(row), fg="yellow")
                continue
            self.matched += 1
            if self._json:
                lines.append(json_line(self._chosen(row)))
            elif self._once is not None and not self._once.shows(row):
                self.elsewhere += 1
            elif self._guard.allows():
                lines.append(self._line(row))
        self._write(lines)

    def tick(self, end: bool = False) -> None:
        """Says what was not shown; to be called at least each second.

        Raises BrokenPipeError when nobody reads the output any more: a quiet tail would write
        nothing for long, and not notice.
        """
        if not end and self._reader.poll(0):
            raise BrokenPipeError
        if hidden := self._guard.hidden(end):
            what = plural(hidden, "record")
            self.note(f"{what} not shown: more than {LINES_PER_S} a second", fg="yellow")

    def note(self, text: str, **style: Any) -> None:
        click.echo(
            paint(f"-- {clean(text)} --", self._note_color, **(style or {"dim": True})),
            file=self._notes,
            color=True,
        )

    def _chosen(self, row: Row) -> Row:
        return {name: row[name] for name in self._fields if name in row} if self._fields else row

    def _write(self, lines: list[str]) -> None:
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()


_LOST = {"map_full": ("packet", "in no flow"), "retransmits_full": ("retransmit", "on no record")}
"""What the number of such a loss counts, and what became of it; else it is records, lost."""


def lost_note(row: Row) -> str:
    count = number(row, "lost")
    what, fate = _LOST.get(str(row.get("drop_reason")), ("record", "lost"))
    where = f"on {row['node']}" if row.get("node") else "at the relay"
    reason = f" ({row['drop_reason']})" if row.get("drop_reason") else ""
    return f"{plural(count, what)} {fate} {where}{reason}"
