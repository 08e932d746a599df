"""Traffic from rollups: paths as columns, of which the best of each channel counts.

What is chosen, and why, says ``relay/store/channels.py``; here its unit is a channel instead of a
flow. A side that saw much less than another was away, and does not count while that did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from flowobs.schema import Reporter
from relay.http.grouped import SIDES, Rows, keep, runs
from relay.http.queries import Session
from relay.http.traffic_sql import BOTH, NAMED, OTHER
from relay.store import StoreError, Table
from relay.store.arrays import Array, Columns
from relay.store.paths import COUNTED, MOST, Paths, keys

_EVENTS: Final = ("drops", "fails", "retransmit_events")
_POINT: Final = ("at", "unit", "path")
_PART: Final = 0.75
"""Of what another point saw: one that saw less was away for some of the time."""
_ALMOST: Final = 0.98
"""One that saw more was not away for a unit."""
_RANK: Final = np.zeros(256, "<u8")
_RANK[[Reporter.source, Reporter.destination]] = 2, 1


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
    points, flows, reasons = _counted(session, paths, groups)
    if not points:
        return nothing, nothing
    units = _units(points)
    if units["apart"].any() and not paths.by_unit:
        apart = np.unique(units["channel"][units["apart"]])
        points, *lists = _counted(session, paths, groups, apart)
        by_unit = (_units(points), *lists)
        units, flows, reasons = (
            _joined([_some(rows, ~np.isin(rows["channel"], apart)), more])
            for rows, more in zip((units, flows, reasons), by_unit, strict=True)
        )
    values, names = {name: units[name] for name in ("proto", "port", "at")}, ["", OTHER]
    if not NAMED.isdisjoint(by):
        ids, end = np.unique(np.concatenate((units["src"], units["dst"])), return_inverse=True)
        ends = session.ends.known(session.query, paths, group, ids)
        places = ends.places(ids)[end].reshape(2, -1)
        values |= zip(SIDES, places, strict=True)
        names = [*ends.labels, *names]
    if only:
        keep(values, names, by[0], only)
    rows = Rows(units, values, names, by, most + 1, new_ns)
    if not rows.size:
        return nothing, nothing
    columns = rows.columns()

    others = np.unique(units["channel"][units["reporter"] != Reporter.source])
    best = np.isin(keys(flows, *_POINT), keys(units, *_POINT))
    columns["flows"] = rows.flows(_some(flows, best), columns["opens"], paths.begin_s)
    if latency:
        told = None if largest is None else rows.channels(columns, *largest)
        histograms = session.arrays(paths.latencies_sql(others, told), paths.parameters)
        columns |= rows.latencies(_of_best(histograms, units))
    columns["drop_reasons"] = rows.reasons(reasons)
    nodes = nothing
    if with_nodes and not SIDES.keys().isdisjoint(by):
        last = np.zeros(len(ids), "<i8")
        np.maximum.at(last, end, np.tile(units["last"], 2))
        nodes = ends.nodes(rows.ends, ids, last)
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


def choose(points: Columns, packets: Array, key: Array) -> tuple[Array, Array, Array]:
    """Of points that are apart by ``key`` and path: their order, where in that each of ``key``
    begins, and which point is its best, of the ``packets`` that each saw."""
    order = np.argsort(key, kind="stable")
    starts, ends = runs(key[order])
    sizes = ends - starts + 1

    def most(values: Array) -> Array:
        return np.repeat(np.maximum.reduceat(values, starts), sizes)

    seen, packets, reporter, path = (
        values[order] for values in (points["seen"], packets, points["reporter"], points["path"])
    )
    score = (seen > 0).astype("<u8") << np.uint64(63)
    score |= (packets >= _PART * most(packets)).astype("<u8") << np.uint64(62)
    score |= _RANK[reporter] << np.uint64(60)
    score += packets
    best = score == most(score)
    best &= path == most(np.where(best, path, 0))  # of equals always the same
    return order, starts, order[best]


def _counted(
    session: Session, paths: Paths, groups: int, apart: Array | None = None
) -> tuple[Columns, Columns, Columns]:
    """What points counted; of each, flows that were ``carried`` into its time; and reasons of its
    drops."""
    found: list[Columns] = []
    flows: list[Columns] = []
    reasons: list[Columns] = []
    size = 0
    for sql in paths.counts_sql(apart, groups):
        if part := session.arrays(sql, paths.parameters):
            flows.append(_apiece(part, "carried"))
            reasons.append(_apiece(part, "drop_reasons"))
            found.append(part)
            size += len(part["path"])
        check(size)
    points = _merged(_joined(found)) if found else {}
    return points, _joined(flows), _joined(reasons)


def _apiece(rows: Columns, name: str) -> Columns:
    """A row per value of the list ``name``, which ``rows`` have no longer."""
    ends = rows.pop(f"{name}.ends").astype("<i8")
    of = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    values = {part: rows.pop(part) for part in (name, f"{name}.keys") if part in rows}
    return {part: rows[part][of] for part in (*_POINT, "channel")} | values


def _merged(rows: Columns) -> Columns:
    """One row per point, of those of several slices and ends."""
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
    if not points:
        return points
    key = keys(points, "at", "unit", "channel")
    packets = np.minimum(points["packets"] + points["reply_packets"], 10**18)
    order, starts, chosen = choose(points, packets, key)

    def all_of(values: Array, how: np.ufunc = np.add) -> Array:
        summed: Array = how.reduceat(values[order], starts)
        return summed

    out = {name: values[chosen] for name, values in points.items()}
    out |= {name: all_of(points[name]) for name in _EVENTS}
    near, far = (points["reporter"] == r for r in (Reporter.source, Reporter.destination))
    resets = points["resets"]
    out["resets"] = np.maximum(all_of(np.where(near, resets, 0)), all_of(np.where(near, 0, resets)))
    out["retransmits"] = np.maximum(out["retransmit_events"], out["again"])
    out |= {f"far_{n}": all_of(np.where(far, points[n], 0), np.maximum) for n in BOTH}
    out["first"] = all_of(points["first"], np.minimum)
    out["last"] = all_of(points["last"], np.maximum)
    # away for whole units, in which another point told of more than some packets
    counted = out["packets"] + out["reply_packets"]
    away = all_of(points["units"], np.bitwise_or) != out["units"]
    away &= counted < _ALMOST * all_of(packets, np.maximum)
    nearest = all_of(np.where(points["seen"] > 0, _RANK[points["reporter"]], 0), np.maximum)
    out["apart"] = away | (nearest > _RANK[out["reporter"]]) | out["moved"]
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
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _some(rows: Columns, which: Array) -> Columns:
    return {name: values[which] for name, values in rows.items()}
