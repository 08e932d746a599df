"""Traffic from rollups: paths as columns, of which the best of each channel counts.

What is chosen, and why, says ``relay/store/channels.py``; here its unit is a channel in a stretch
of time (``Paths.unit_s``) instead of a flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from flowobs.schema import Reporter
from relay.http.queries import Session
from relay.http.traffic_sql import BOTH, LEVELS, NUMBERS
from relay.store import StoreError, Table, histogram
from relay.store.arrays import Array, Columns
from relay.store.paths import COUNTED, MOST, Paths, keys
from relay.store.rollup import LATENCIES

_EVENTS: Final = ("drops", "fails", "retransmit_events")
_SIDES: Final = {"source": "src", "destination": "dst"}
_TROUBLE: Final = ("drops", "resets", "retransmits", "fails")


def rolled(
    session: Session, paths: Paths, group: str, by: Sequence[str], latency: bool, most: int
) -> tuple[Table, Table]:
    """At most ``most`` + 1 rows that differ in ``by``, as ``totals_sql`` gives them; the nodes."""
    parameters = paths.parameters
    if group.startswith("label:"):
        parameters["label"] = group.removeprefix("label:")
    counted = session.arrays(paths.counts_sql(), parameters)
    if not counted:
        return Table({}, 0), Table({}, 0)
    if len(counted["path"]) > MOST:
        raise StoreError(
            f"more than {MOST:,} paths match: ask about a shorter time, or for less with a filter"
        )
    units = _units(_merged(counted))
    nodes, labels = Table({}, 0), {}
    if any(name in _SIDES for name in by):
        ids = np.unique(np.concatenate((units["src"], units["dst"])))
        nodes = session.query(paths.nodes_sql(group, ids), parameters)
        labels = _labels(nodes, units)
    rows = _Rows(units, labels, nodes["id"], by, most + 1)
    columns = rows.columns()

    whole = np.isin(units["channel"], units["channel"][units["reporter"] != Reporter.source])
    others = np.unique(units["channel"][whole])
    flows = session.arrays(paths.flows_sql(others), parameters)
    columns["flows"] = rows.flows(flows, columns["opens"])
    if latency:
        columns |= rows.latencies(session.arrays(paths.latencies_sql(others), parameters))
    reasons: list[dict[str, int]] = [{} for _ in columns["opens"]]
    if any(columns["drops"]):
        table = session.query(paths.reasons_sql(), parameters)
        found = {name: np.array(table[name], "<u8") for name in ("at", "channel")}
        for row, reason, n in zip(
            rows.of(found).tolist(), table["reason"], table["n"], strict=True
        ):
            if row >= 0:
                reasons[row][reason] = reasons[row].get(reason, 0) + n
    columns["drop_reasons"] = reasons
    used = {label for name in by if name in _SIDES for label in columns[name]}
    return Table(columns, len(reasons)), _only(nodes, used)


class _Rows:
    """Units by what they are asked to differ in: those with trouble first, then the busiest."""

    def __init__(
        self, units: Columns, labels: Columns, names: list[str], by: Sequence[str], most: int
    ) -> None:
        self._units, self._names, self._by = units, [*names, ""], by
        values = {name: labels[name] if name in labels else units[name] for name in by}
        code = _codes(list(values.values()))
        first, inverse = np.unique(code, return_index=True, return_inverse=True)[1:]
        trouble = np.zeros(len(first), bool)
        busy = np.zeros(len(first))
        for name in _TROUBLE:
            trouble |= _sum(inverse, units[name], len(first)) > 0
        for name in ("packets", "reply_packets"):
            busy += _sum(inverse, units[name], len(first))
        order = np.lexsort((-busy, ~trouble))[:most]
        rank = np.full(len(first), -1)
        rank[order] = np.arange(len(order))
        self._size = len(order)
        self._row = rank[inverse]
        """Of each unit; -1 where there are too many."""
        by_row = np.argsort(self._row, kind="stable")
        self._order = by_row[np.searchsorted(self._row[by_row], 0) :]
        self._starts = _starts(self._row[self._order])
        self._key = {name: column[first[order]] for name, column in values.items()}
        self._pairs = _codes([units[name] for name in ("src", "dst", "proto", "port", "at")])
        # where a channel's ends changed, the newest have what only the channel is known of
        channels = keys(units, "at", "channel")
        newest = np.lexsort((units["last"], channels))
        last = _ends(channels[newest])
        self._channels, self._of_channel = channels[newest][last], self._row[newest][last]

    def columns(self) -> dict[str, list[Any]]:
        """What units add up to."""
        units, size = self._units, self._size
        out: dict[str, list[Any]] = {}
        for name, key in self._key.items():
            out[name] = [self._names[i] for i in key] if name in _SIDES else key.tolist()
        out |= {n: self._sum(units[n]).tolist() for n in NUMBERS if n != "flows"}
        out["first_seen"] = self._sum(units["first"], np.minimum).tolist()
        out["last_seen"] = self._sum(units["last"], np.maximum).tolist()
        told = np.zeros((size, len(Reporter)), "<u8")
        kept = self._row >= 0
        weight = np.maximum(np.maximum(units["opens"], units["seen"]), 1)
        np.add.at(told, (self._row[kept], units["reporter"][kept]), weight[kept])
        out["told_by"] = told.tolist()
        out["path"] = self._path()
        return out

    def of(self, found: Columns) -> Array:
        """The row of each ``at`` and channel, or -1."""
        key = keys(found, "at", "channel")
        at = np.searchsorted(self._channels, key).clip(0, len(self._channels) - 1)
        return np.where(self._channels[at] == key, self._of_channel[at], -1)

    def flows(self, found: Columns, opens: list[int]) -> list[int]:
        """How many there were: opened, or open before."""
        before = np.zeros(self._size, "<i8")
        if found:
            row = self.of(found)
            kept = row >= 0
            np.add.at(before, row[kept], (found["active"] - found["opened"])[kept])
        return (np.array(opens, "<i8") + before).tolist()  # type: ignore[no-any-return]

    def latencies(self, found: Columns) -> dict[str, list[list[float]]]:
        """Milliseconds at each of ``LEVELS``; nothing where nothing is known."""
        out = {}
        row = self.of(found) if found else np.zeros(0, "<i8")
        for name in LATENCIES:
            counts: Array = np.zeros((self._size, histogram.BUCKETS))
            if found:
                sizes = np.diff(found[f"{name}_buckets.ends"].astype("<i8"), prepend=0)
                at = np.repeat(row, sizes)
                kept = at >= 0
                place = at * histogram.BUCKETS + found[f"{name}_buckets"]
                counts = np.bincount(
                    place[kept], found[f"{name}_counts"][kept], counts.size
                ).reshape(counts.shape)
            out[f"{name}_ms"] = histogram.levels_ms(counts, LEVELS)
        return out

    def _sum(self, values: Array, how: np.ufunc = np.add) -> Array:
        # every row has a unit: the runs are the rows
        return how.reduceat(values[self._order], self._starts)

    def _path(self) -> list[list[int]]:
        """What both sides counted: of pairs of ends that both sides told of."""
        units, size = self._units, self._pairs.max() + 1
        near_side = units["reporter"] == Reporter.source
        near = {n: np.where(near_side, units[n], 0) for n in BOTH}
        far = {n: units[f"far_{n}"] for n in BOTH}
        both = np.ones(size, bool)
        for side in (near, far):
            both &= _sum(self._pairs, side["packets"] + side["reply_packets"], size) > 0
        told = both[self._pairs]
        sums = [self._sum(np.where(told, side[n], 0)) for side in (near, far) for n in BOTH]
        some = self._sum(told.astype("<u8")) > 0
        return [
            counts if there else []
            for counts, there in zip(np.stack(sums, 1).tolist(), some.tolist(), strict=True)
        ]


def _merged(rows: Columns) -> Columns:
    """One row per ``at``, unit and path, of those of several slices."""
    key = keys(rows, "at", "unit", "path")
    order = np.lexsort((rows["last"], key))
    starts, newest = _starts(key[order]), order[_ends(key[order])]
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
    starts, best = _starts(key[order]), order[_ends(key[order])]

    def all_of(values: Array, how: np.ufunc = np.add) -> Array:
        return how.reduceat(values[order], starts)

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
    for name, side in _SIDES.items():
        at = np.searchsorted(ids[:-1], units[side])
        out[name] = np.where(ids[at] == units[side], node[at], len(ends))
    return out


def _only(nodes: Table, used: set[str]) -> Table:
    kept = [i for i, id in enumerate(nodes["id"]) if id in used]
    columns = {name: [nodes.columns[name][i] for i in kept] for name in nodes.columns}
    return Table(columns, len(kept))


def _codes(columns: list[Array]) -> Array:
    """A number for each distinct row, from 0 on."""
    code = np.zeros(len(columns[0]), "<i8") if columns else np.zeros(0, "<i8")
    for column in columns:
        values, inverse = np.unique(column, return_inverse=True)
        code = np.unique(code * len(values) + inverse, return_inverse=True)[1]
    return code


def _sum(code: Array, values: Array, size: int) -> Array:
    return np.bincount(code, values, size)


def _starts(key: Array) -> Array:
    """Where runs of equal numbers begin; there is at least one number."""
    return np.concatenate(([0], np.flatnonzero(key[1:] != key[:-1]) + 1))


def _ends(key: Array) -> Array:
    return np.append(_starts(key)[1:], len(key)) - 1
