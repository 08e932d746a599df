"""The relay's status for people."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from flowobs.cli.client import Row
from flowobs.cli.measured import moment, rows_of
from flowobs.cli.output import use_color
from flowobs.cli.text import clean, columns, counted, duration, number, paint, plural, size

_BEHIND_S = 5.0
"""Agents say how far they are once a second."""


def show(server: str, found: Row, output: str | None, color: str) -> None:
    tty = sys.stdout.isatty()
    if (output or ("text" if tty else "json")) == "json":
        print(json.dumps(found, separators=(",", ":")))
    else:
        print("\n".join(lines(server, found, use_color(color, tty))))
    if not _part(found, "store").get("healthy"):
        raise click.exceptions.Exit(1)


def lines(server: str, found: Row, color: bool) -> list[str]:
    store, live = _part(found, "store"), _part(found, "live")
    rows = [
        [
            "relay",
            f"{server}, version {clean(found.get('version'))}, up {_seconds(found, 'uptime_s')}",
        ],
        ["store", f"{clean(store.get('url'))}, {clean(store.get('engine'))}"],
    ]
    if not store.get("healthy"):
        rows.append(["", paint(f"NOT HEALTHY: {clean(store.get('error'))}", color, fg="red")])
    if store.get("rows") is not None:
        held = plural(number(store, "rows"), "record")
        rows.append(["", f"{held}, kept {clean(store.get('retention'))}"])
        rows += [["", paint(line, color, fg="yellow")] for line in _early(store)]
        rows.append(["", _disk(store)])
        if store.get("oldest"):
            rows.append(["", f"{moment(store['oldest'])} to {moment(store.get('newest'))}"])
        late = _seconds(store, "lag_s") + " behind" if store.get("lag_s") else "up to date with"
        rows.append(["", f"{late} what agents have sent"])
    readers = plural(number(live, "subscribers"), "subscriber")
    held = f"{plural(number(live, 'buffered'), 'record')} in memory"
    since = f", since {moment(live['oldest'])}" if live.get("oldest") else ""
    rows.append(["live", f"{readers}, {held}{since}"])
    lost = {k: n for k, n in _part(found, "lost").items() if n}
    rows.append(["lost", ", ".join(f"{clean(k)} {clean(n)}" for k, n in lost.items()) or "nothing"])
    rows += _names(found, color)
    return [*columns(rows), "", *_agents(found, color)]


def _early(store: Row) -> list[str]:
    """What the disk's budget leaves less of than is wanted."""
    return [
        f"{clean(kept.get('table'))} kept since {moment(kept.get('since'))}, wanted"
        f" {_seconds(kept, 'wanted_s')}: the disk budget (--max-disk) drops older ones"
        for kept in rows_of(store, "dropped_early")
    ]


def _disk(store: Row) -> str:
    tables = _part(store, "tables")
    each = ", ".join(f"{clean(name)} {size(number(tables, name))}" for name in tables)
    return f"{size(number(store, 'bytes'))} on disk" + (f": {each}" if each else "")


def _names(found: Row, color: bool) -> list[list[str]]:
    """What is known of the cluster that the relay watches, and whose names may be out of date."""
    lines = _cluster(_part(found, "identity"), color)
    agents = [a for a in found.get("agents") or [] if isinstance(a, dict)]
    for a in agents:
        if number(a, "names_age_s"):
            old = f"{clean(a.get('agent'))} {_seconds(a, 'names_age_s')} old"
            lines.append(paint(old, color, fg="yellow"))
    return [["names" if n == 0 else "", line] for n, line in enumerate(lines or ["up to date"])]


def _cluster(found: Row, color: bool) -> list[str]:
    if not found:
        return []
    resources = [r for r in found.get("resources") or [] if isinstance(r, dict)]
    known = [
        counted(number(r, "objects"), clean(r.get("resource")))
        for r in resources
        if not r.get("off")
    ]
    agents = [a for a in found.get("agents") or [] if isinstance(a, dict)]
    cluster = clean(found.get("cluster")) or "of no name"
    lines = [f"cluster {cluster}: {', '.join(known)}", f"given to {plural(len(agents), 'agent')}"]
    stale: dict[str, list[Row]] = {}
    for r in resources:
        if r.get("stale"):
            stale.setdefault(clean(r.get("problem")) or "not known yet", []).append(r)
    for problem, of in stale.items():
        which = ", ".join(clean(r.get("resource")) for r in of)
        ages = [r["age_s"] for r in of if isinstance(r.get("age_s"), int | float)]
        age = duration(max(ages) * 1e9) if ages else "?"
        lines.append(paint(f"NOT FRESH: {which}: {age} old: {problem}", color, fg="red"))
    for a in agents:
        if isinstance(a.get("lag_s"), int | float) and a["lag_s"] > _BEHIND_S:
            late = f"{clean(a.get('agent'))} is {_seconds(a, 'lag_s')} behind"
            lines.append(paint(late, color, fg="yellow"))
    return lines


def _agents(found: Row, color: bool) -> list[str]:
    agents = [agent for agent in found.get("agents") or [] if isinstance(agent, dict)]
    if not agents:
        return ["no agent has connected yet: start one with 'flowobs agent'"]
    head = ["AGENT", "NODE", "STATE", "VERSION", "RECORDS", "LOST", "LAST SEEN"]
    table = [
        [
            clean(agent.get("agent")),
            clean(agent.get("node")),
            "connected" if agent.get("connected") else "away",
            clean(agent.get("version")),
            f"{number(agent, 'rows'):,}",
            f"{number(agent, 'lost'):,}",
            moment(agent.get("last_seen")),
        ]
        for agent in agents
    ]
    first, *rest = columns([head, *table], right=frozenset({4, 5}))
    return [
        paint(first, color, bold=True),
        *(
            paint(line, color and not agent.get("connected"), fg="yellow")
            for line, agent in zip(rest, agents, strict=True)
        ),
    ]


def _part(found: Row, name: str) -> dict[str, Any]:
    part = found.get(name)
    return part if isinstance(part, dict) else {}


def _seconds(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    return duration(value * 1e9) if isinstance(value, int | float) else "?"
