"""What is known of an address, a name or a socket, for people."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from flowobs.cli.client import Relay, Row
from flowobs.cli.errors import NothingFound, Unreachable
from flowobs.cli.output import use_color
from flowobs.cli.text import clean, paint

DIM = {"dim": True}
_FINE = re.compile(r"(?<=\.\d{3})\d+(?=Z$)")


def ask(server: str, agent: str | None, params: dict[str, Any]) -> Row:
    """The relay's answer, or that of the agent at ``agent``."""
    if agent is None:
        return Relay(server).document("/api/v1/whois", params)
    try:
        return Relay(agent).document("/whois", params)
    except Unreachable as error:
        raise Unreachable(
            f"No agent answers at {agent}. Name the address that it serves metrics at "
            "(flowobs agent --metrics)."
        ) from error


def show(found: Row, output: str | None, color: str, agent: str | None = None) -> None:
    tty = sys.stdout.isatty()
    if (output or ("text" if tty else "json")) == "json":
        print(json.dumps(found, separators=(",", ":")))
    else:
        print("\n".join(lines(found, use_color(color, tty))))
    if not _list(found, "claims") and not _list(found, "seen"):
        who = clean(found.get("query"))
        if agent is not None:
            raise NothingFound(
                f"The agent of {clean(found.get('node'))} does not know {who}. "
                "Ask the relay, without --agent, or the agent of another node."
            )
        raise NothingFound(
            f"Nobody knows {who}. Look further back with --since, or ask the agent of its node "
            "with --agent."
        )


def lines(found: Row, color: bool) -> list[str]:
    """Two lines for each answer: who, and by whose word since when and why."""
    shown = [f"{clean(found.get('query'))} at {_moment(found, 'at')}"]
    for title, rows in (
        ("what sources say", _list(found, "claims")),
        ("what records say", _list(found, "seen")),
    ):
        if rows:
            shown += ["", paint(title, color, bold=True)]
        for row in rows:
            style = {} if row.get("accepted") else DIM
            mark = "*" if row.get("accepted") else " "
            shown.append(paint(f"{mark} {_who(row)}", color, **style))
            shown.append(paint(f"    {_why(row)}", color, **style))
    return shown


def _why(row: Row) -> str:
    parts = [clean(row["address"])] if row.get("address") else []
    parts.append(f"named by {clean(row['source'])}" if row.get("source") else "named by nobody")
    if row.get("first_seen"):
        parts.append(f"{_moment(row, 'first_seen')} to {_moment(row, 'last_seen')}")
    parts += [f"{word} {_moment(row, word)}" for word in ("since", "until") if row.get(word)]
    return f"{', '.join(parts)}: {clean(row.get('reason', ''))}{_told_by(row)}"


def _moment(row: Row, name: str) -> str:
    """A time without what is finer than milliseconds."""
    return _FINE.sub("", clean(row.get(name, "-")))


def _who(row: Row) -> str:
    """``pod shop/web-0 (Deployment web, container nginx)``."""
    name = clean(row.get("name") or "")
    if namespace := row.get("namespace"):
        name = f"{clean(namespace)}/{name}"
    more = []
    if row.get("workload") and row["workload"] != row.get("name"):
        more.append(f"{clean(row.get('workload_kind', 'workload'))} {clean(row['workload'])}")
    if row.get("container") and row["container"] != row.get("name"):
        more.append(f"container {clean(row['container'])}")
    if row.get("process"):
        more.append(f"process {clean(row['process'])} {clean(row.get('pid', ''))}".rstrip())
    shown = f"{clean(row.get('kind', 'unknown'))} {name}".rstrip()
    return shown + (f" ({', '.join(more)})" if more else "")


def _told_by(row: Row) -> str:
    nodes = row.get("told_by")
    known = [clean(node) for node in nodes if node] if isinstance(nodes, list) else []
    return f", told by {', '.join(known[:3])}{' ...' * (len(known) > 3)}" if known else ""


def _list(found: Row, name: str) -> list[Row]:
    rows = found.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
