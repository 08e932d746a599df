"""Traffic from rollups: paths as columns, of which the best of each channel counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from flowobs.schema import Reporter
from relay.http.best import EVENTS, RANK, Best, runs
from relay.http.grouped import SIDES, Rows, keep
from relay.http.queries import Session
from relay.http.traffic_sql import BOTH, NAMED, OTHER
from relay.store import StoreError, Table
from relay.store.arrays import Array, Columns
from relay.store.paths import COUNTED, MOST, Paths, keys

_POINT: Final = ("at", "unit", "path")
_ALMOST: Final = 0.98
"""One that saw more was not away for a unit."""


def rolled(
    session: Session,
    paths: Paths,
    group: str,
    by: Sequence[str],
    latency: bool,
    largest: tuple[str, int] | None,
    most: int,
    only: Sequence[Any] = (),
    new_ns: int = 0,
    with_nodes: bool = True,
) -> tuple[Table, Table]:
    """At most ``most`` + 1 rows that differ in ``by``, as ``totals_sql`` gives them; the nodes."""
    nothing = Table({}, 0)
    groups = groups_of(session, paths)
    units, flows, reasons = _counted(session, paths, groups)
    if not units:
        return nothing, nothing
    if units["apart"].any() and not paths.by_unit:
        apart = np.unique(units["channel"][units["apart"]])
        by_unit = _counted(session, paths, groups, apart)
        units, flows, reasons = (
            _joined([_some(rows, ~np.isin(rows["channel"], apart)), more])
            for rows, more in zip((units, flows, reasons), by_unit, strict=True)
        )
    values, names = {name: units[name] for name in ("proto", "port", "at")}, [OTHER]
    if not NAMED.isdisjoint(by):
        ids, end = np.unique(np.concatenate((units["src"], units["dst"])), return_inverse=True)
        ends = session.ends.known(session.query, paths, group, ids)
        used, place = np.unique(ends.places(ids), return_inverse=True)
        values |= zip(SIDES, place[end].reshape(2, -1), strict=True)
        names = [*map(ends.label_of, used.tolist()), *names]
    if only:
        keep(values, names, by[0], only)
    rows = Rows(units, values, names, by, most + 1, new_ns)
    if not rows.size:
        return nothing, nothing
    columns = rows.columns()

    others = np.unique(units["channel"][units["reporter"] != Reporter.source])
    columns["flows"] = rows.flows(flows, columns["opens"], paths.begin_s)
    if latency:
        told = None if largest is None else rows.channels(columns, *largest)
        asked = paths.latencies_sql(others, len(units["path"]), groups, told)
        found = (session.arrays(sql, paths.parameters) for sql in asked)
        columns |= rows.latencies(_of_best(histograms, units) for histograms in found)
    columns["drop_reasons"] = rows.reasons(reasons)
    nodes = nothing
    if with_nodes and not SIDES.keys().isdisjoint(by):
        last = np.zeros(len(ids), "<i8")
        np.maximum.at(last, end, np.tile(units["last"], 2))
        nodes = ends.nodes(used[rows.ends[rows.ends < len(used)]], ids, last)
    return Table(columns, rows.size), nodes


def groups_of(session: Session, paths: Paths) -> int:
    """About how many paths and steps there are, where that matters."""
    if not paths.cuts:
        return MOST
    sample = session.query(paths.sample_sql(paths.step_s), paths.parameters)
    groups: int = sample["groups"][0]
    return groups


def check(size: int) -> None:
    """Raises StoreError where so many paths do not fit into memory."""
    if size > MOST:
        raise StoreError(
            f"more than {MOST:,} paths match: ask about a shorter time, or for less with a filter"
        )


def _counted(
    session: Session, paths: Paths, groups: int, apart: Array | None = None
) -> tuple[Columns, Columns, Columns]:
    """What units counted; flows that were ``carried`` into the time of each one's best point; and
    reasons of the drops of all points."""
    found: list[Columns] = []
    flows: list[Columns] = []
    reasons: list[Columns] = []
    size = 0
    for sql in paths.counts_sql(apart, groups):
        if part := session.arrays(sql, paths.parameters):
            carried = _apiece(part, "carried")
            reasons.append(_apiece(part, "drop_reasons"))
            size += len(part["path"])
            units = _units(_merged(part))  # of all steps at once it takes several times as much
            best = np.isin(keys(carried, *_POINT), keys(units, *_POINT))
            flows.append({name: carried[name][best] for name in ("at", "channel", "carried")})
            found.append(units)
        check(size)
    return _joined(found), _joined(flows), _joined(reasons)


def _apiece(rows: Columns, name: str) -> Columns:
    """A row per value of the list ``name``, which ``rows`` have no longer."""
    ends = rows.pop(f"{name}.ends").astype("<i8")
    of = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    values = {part: rows.pop(part) for part in (name, f"{name}.keys") if part in rows}
    return {part: rows[part][of] for part in (*_POINT, "channel")} | values


def _merged(rows: Columns) -> Columns:
    """One row per point, of those of several slices and ends; there is at least one."""
    key = keys(rows, *_POINT)
    order = np.lexsort((rows["last"], key))
    starts, ends = runs(key[order])
    newest = order[ends]
    out = {n: rows[n][newest] for n in (*_POINT, "channel", "reporter", "proto", "port", "last")}
    out |= {side: rows[side][newest] for side in ("src", "dst")}
    out |= {n: np.add.reduceat(rows[n][order], starts) for n in COUNTED}
    out["first"] = np.minimum.reduceat(rows["first"][order], starts)
    out["units"] = np.bitwise_or.reduceat(rows["units"][order], starts)
    pair = keys(rows, "src", "dst")[order]
    out["moved"] = np.minimum.reduceat(pair, starts) != np.maximum.reduceat(pair, starts)
    return out


def _units(points: Columns) -> Columns:
    """One row per ``at``, unit and channel: what its best point counted, and all points' events."""
    packets = points["packets"] + points["reply_packets"]
    best = Best(points, packets, keys(points, "at", "unit", "channel"))
    out = {name: values[best.chosen] for name, values in points.items()}
    out |= {name: best.counted(name) for name in (*EVENTS, "resets", "retransmits")}
    far = points["reporter"] == Reporter.destination
    out |= {f"far_{n}": best.all_of(np.where(far, points[n], 0), np.maximum) for n in BOTH}
    out["first"] = best.all_of(points["first"], np.minimum)
    out["last"] = best.all_of(points["last"], np.maximum)
    # away for whole units, in which another point told of more than some packets
    away = best.all_of(points["units"], np.bitwise_or) != out["units"]
    counted = best.packets[best.chosen]
    away &= counted < _ALMOST * best.all_of(best.packets, np.maximum)
    nearest = best.all_of(np.where(points["seen"] > 0, RANK[points["reporter"]], 0), np.maximum)
    out["apart"] = away | (nearest > RANK[out["reporter"]]) | out["moved"]
    return out


def _of_best(rows: Columns, units: Columns) -> Columns:
    """``rows`` of paths with their ``channel``; 0 where a path is not the best of one."""
    if not rows:
        return rows
    key, own = keys(units, "at", "path"), keys(rows, "at", "path")
    order = np.argsort(key)
    at = order[np.searchsorted(key, own, sorter=order).clip(0, len(key) - 1)]
    return rows | {"channel": np.where(key[at] == own, units["channel"][at], 0)}


def _joined(parts: list[Columns]) -> Columns:
    parts = [part for part in parts if part]
    if len(parts) < 2:
        return parts[0] if parts else {}
    # each column is held twice, not all of them
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}


def _some(rows: Columns, which: Array) -> Columns:
    return {name: values[which] for name, values in rows.items()}
