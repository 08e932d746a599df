"""Traffic from rollups: paths as columns, of which the best of each channel counts.

What is chosen, and why, says ``relay/store/channels.py``; here its unit is a channel in a stretch
of time (``Paths.unit_s``) instead of a flow.
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
from relay.store.names import LABEL
from relay.store.paths import COUNTED, MOST, Paths, keys

_EVENTS: Final = ("drops", "fails", "retransmit_events")


def rolled(
    session: Session,
    paths: Paths,
    group: str,
    by: Sequence[str],
    latency: bool,
    most: int,
    only: Sequence[Any] = (),
    new_ns: int = 0,
    with_nodes: bool = True,
) -> tuple[Table, Table]:
    """At most ``most`` + 1 rows that differ in ``by``, as ``totals_sql`` gives them; the nodes."""
    nothing = Table({}, 0)
    parameters = paths.parameters
    if group.startswith(LABEL):
        parameters["label"] = group.removeprefix(LABEL)
    counted = _counted(session, paths)
    if not counted:
        return nothing, nothing
    units = _units(_merged(counted))
    nodes, values = nothing, {name: units[name] for name in ("proto", "port", "at")}
    if not NAMED.isdisjoint(by):
        ids = np.unique(np.concatenate((units["src"], units["dst"])))
        with_nodes = with_nodes and not SIDES.keys().isdisjoint(by)
        nodes = session.query(paths.nodes_sql(group, ids, with_nodes), parameters)
        values |= _labels(nodes, units)
    names = [*nodes["id"], "", OTHER]
    if only:
        keep(values, names, by[0], only)
    rows = Rows(units, values, names, by, most + 1, new_ns)
    if not rows.size:
        return nothing, nothing
    columns = rows.columns()

    whole = np.isin(units["channel"], units["channel"][units["reporter"] != Reporter.source])
    others = np.unique(units["channel"][whole])
    flows = session.arrays(paths.flows_sql(others), parameters)
    columns["flows"] = rows.flows(flows, columns["opens"])
    if latency:
        columns |= rows.latencies(session.arrays(paths.latencies_sql(others), parameters))
    reasons: list[dict[str, int]] = [{} for _ in range(rows.size)]
    if any(columns["drops"]):
        table = session.query(paths.reasons_sql(), parameters)
        found = {name: np.array(table[name], "<u8") for name in ("at", "channel")}
        told, counts = table["reason"], table["n"]
        for i, row in np.stack(rows.of(found), 1).tolist():
            reasons[row][told[i]] = reasons[row].get(told[i], 0) + counts[i]
    columns["drop_reasons"] = reasons
    used = {label for name in by if with_nodes and name in SIDES for label in columns[name]}
    return Table(columns, rows.size), _only(nodes, used)


def _counted(session: Session, paths: Paths) -> Columns:
    found, size = [], 0
    for sql in paths.counts_sql():
        if part := session.arrays(sql, paths.parameters):
            found.append(part)
            size += len(part["path"])
        if size > MOST:
            raise StoreError(
                f"more than {MOST:,} paths match: ask about a shorter time, or for less with a"
                " filter"
            )
    if len(found) < 2:
        return found[0] if found else {}
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _merged(rows: Columns) -> Columns:
    """One row per ``at``, unit and path, of those of several slices."""
    key = keys(rows, "at", "unit", "path")
    order = np.lexsort((rows["last"], key))
    starts, ends = runs(key[order])
    newest = order[ends]
    out = {n: rows[n][newest] for n in ("at", "unit", "channel", "reporter", "proto", "port")}
    out |= {side: rows[side][newest] for side in ("src", "dst")}
    out |= {n: np.add.reduceat(rows[n][order], starts) for n in COUNTED}
    out["first"] = np.minimum.reduceat(rows["first"][order], starts)
    out["last"] = rows["last"][newest]
    return out


def _units(points: Columns) -> Columns:
    """One row per ``at``, unit and channel: what its best path counted, and all paths' events."""
    key = keys(points, "at", "unit", "channel")
    rank = np.zeros(256, "<u8")
    rank[[Reporter.source, Reporter.destination]] = 2, 1
    score = (points["seen"] > 0).astype("<u8") << np.uint64(62)
    score |= rank[points["reporter"]] << np.uint64(60)
    score += np.minimum(points["packets"] + points["reply_packets"], 10**18)
    order = np.lexsort((score, key))
    starts, ends = runs(key[order])
    best = order[ends]

    def all_of(values: Array, how: np.ufunc = np.add) -> Array:
        summed: Array = how.reduceat(values[order], starts)
        return summed

    out = {name: values[best] for name, values in points.items()}
    out |= {name: all_of(points[name]) for name in _EVENTS}
    near, far = (points["reporter"] == r for r in (Reporter.source, Reporter.destination))
    resets = points["resets"]
    out["resets"] = np.maximum(all_of(np.where(near, resets, 0)), all_of(np.where(near, 0, resets)))
    out["retransmits"] = np.maximum(out["retransmit_events"], out["again"])
    out |= {f"far_{n}": all_of(np.where(far, points[n], 0), np.maximum) for n in BOTH}
    out["first"] = all_of(points["first"], np.minimum)
    out["last"] = all_of(points["last"], np.maximum)
    return out


def _labels(nodes: Table, units: Columns) -> Columns:
    """Which node each end is of, by its place in ``nodes``; the last but one where none is."""
    ends = nodes["ends"]
    ids = np.array([id for of_node in ends for id in of_node], "<u8")
    node = np.repeat(np.arange(len(ends)), [len(of_node) for of_node in ends])
    order = np.argsort(ids)
    ids, node = np.append(ids[order], 0), np.append(node[order], len(ends))
    out = {}
    for name, side in SIDES.items():
        at = np.searchsorted(ids[:-1], units[side])
        out[name] = np.where(ids[at] == units[side], node[at], len(ends))
    return out


def _only(nodes: Table, used: set[str]) -> Table:
    kept = [i for i, id in enumerate(nodes["id"]) if id in used]
    columns = {name: [nodes.columns[name][i] for i in kept] for name in nodes.columns}
    return Table(columns, len(kept))
