"""Units of rollups added up by what rows are asked to differ in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from flowobs.measures import COUNTS
from flowobs.schema import Reporter
from relay.http.best import runs
from relay.http.traffic_sql import BOTH, EDGE, LEVELS, NUMBERS, OTHER
from relay.store import histogram
from relay.store.arrays import Array, Columns
from relay.store.paths import keys
from relay.store.rollup import LATENCIES

SIDES: Final = {"source": "src", "destination": "dst"}
_TROUBLE: Final = ("drops", "resets", "retransmits", "fails")


def keep(values: Columns, names: list[str], by: str, only: Sequence[Any]) -> None:
    """Of ``values``, which are places in ``names`` or numbers, make all but ``only`` ``OTHER``."""
    place = {name: i for i, name in enumerate(names)}
    other = place[OTHER]
    if by == "edge":
        kept = np.zeros(len(values["at"]), bool)
        for source, destination, *channel in only:
            edge = (place.get(source, -1), place.get(destination, -1), *channel)
            kept |= np.all([values[n] == v for n, v in zip(EDGE, edge, strict=True)], 0)
        for name in EDGE:
            values[name] = np.where(kept, values[name], other if name in SIDES else 0)
        return
    chosen = [place[name] for name in only if name in place]
    for name in SIDES if by == "end" else (by,):
        values[name] = np.where(np.isin(values[name], chosen), values[name], other)


class Rows:
    """Units by what they are asked to differ in: those with trouble first, then the busiest.

    ``values`` are what units differ in; of sources and destinations, places in ``names``. There are
    at most ``most`` rows; with ``new_ns`` those first seen from then on.
    """

    def __init__(
        self,
        units: Columns,
        values: Columns,
        names: list[str],
        by: Sequence[str],
        most: int,
        new_ns: int = 0,
    ) -> None:
        self._names, self._by = names, by
        # where a channel's ends changed, the newest have what only the channel is known of
        channels = keys(units, "at", "channel")
        newest = np.lexsort((units["last"], channels))
        newest = newest[runs(channels[newest])[1]]
        self._channels = channels[newest]
        place = np.searchsorted(self._channels, channels)
        self._opens, self._seen = (
            _sum(place, units[name], len(newest)).astype("<i8") for name in ("opens", "seen")
        )
        apart = np.zeros(len(channels), bool)
        if "end" in by:  # a unit is of both its ends; what stays within an end counts once
            apart = values["source"] != values["destination"]
            twice = {name: _with(column, column, apart) for name, column in values.items()}
            values = twice | {"end": _with(values["source"], values["destination"], apart)}
        self._units = units
        unit = np.concatenate((np.arange(len(channels)), np.flatnonzero(apart)))
        parts = [part for name in by for part in (EDGE if name == "edge" else (name,))]
        code = codes([values[part] for part in parts])
        found, inverse = np.unique(code, return_index=True, return_inverse=True)[1:]
        self.size = len(found)
        trouble = np.zeros(self.size, bool)
        busy = np.zeros(self.size)
        for name in _TROUBLE:
            trouble |= _sum(inverse, units[name][unit], self.size) > 0
        for name in ("packets", "reply_packets"):
            busy += _sum(inverse, units[name][unit], self.size)
        order = np.lexsort((-busy, ~trouble))
        if new_ns:
            old = np.zeros(self.size, bool)
            old[inverse[(units["first"] < new_ns)[unit]]] = True
            order = order[~old[order]]
        order = order[:most]
        rank = np.full(self.size, -1)
        rank[order] = np.arange(len(order))
        self.size = len(order)
        row = rank[inverse]  # -1 where there is none
        by_row = np.argsort(row, kind="stable")
        by_row = by_row[np.searchsorted(row[by_row], 0) :]
        self._order, self._rows = unit[by_row], row[by_row]
        """Units by row, some twice, and the row of each."""
        self._starts = np.searchsorted(self._rows, np.arange(self.size))
        self._key = {part: values[part][found[order]] for part in parts}
        pairs = keys(units, "src", "dst", "proto", "port", "at")
        self._pairs = np.unique(pairs, return_inverse=True)[1]
        of_units = np.full((2, len(channels)), -1)
        of_units[0], of_units[1, apart] = np.split(row, [len(channels)])
        self._of_channel = of_units[:, newest]

    def columns(self) -> dict[str, Any]:
        """What units add up to."""
        units, size = self._units, self.size
        out: dict[str, Any] = {}
        for name in self._by:
            edge = zip(*(self._told(part) for part in EDGE), strict=True) if name == "edge" else ()
            out[name] = list(edge) if name == "edge" else self._told(name)
        out |= {n: self._sum(units[n]).tolist() for n in NUMBERS if n != "flows"}
        out["first_seen"] = self._sum(units["first"], np.minimum).tolist()
        out["last_seen"] = self._sum(units["last"], np.maximum).tolist()
        told = np.zeros((size, len(Reporter)), "<u8")
        weight = np.maximum(np.maximum(units["opens"], units["seen"]), 1)
        np.add.at(told, (self._rows, units["reporter"][self._order]), weight[self._order])
        out["told_by"] = told
        out["path"] = self._path()
        return out

    @property
    def ends(self) -> Array:
        """Places in ``names`` of all sources and destinations."""
        sides = [self._key[side] for side in SIDES if side in self._key]
        return np.unique(np.concatenate(sides))

    def of(self, found: Columns) -> tuple[Array, Array]:
        """Which of ``found``, by ``at`` and channel, are of which rows: places in both."""
        rows = self._rows_of(found)
        there = rows >= 0
        return np.nonzero(there)[1], rows[there]

    def _rows_of(self, found: Columns) -> Array:
        """The two rows of each of ``found``; -1 where there is none."""
        key = keys(found, "at", "channel")
        at = np.searchsorted(self._channels, key).clip(0, len(self._channels) - 1)
        rows: Array = np.where(self._channels[at] == key, self._of_channel[:, at], -1)
        return rows

    def flows(self, found: Columns, opens: list[int], begin_s: int) -> list[int]:
        """How many there were: opened, or open before; or which an agent came late for.

        ``found`` are flows ``carried`` by ``at`` and channel; ``begin_s`` is the first second.
        """
        place = np.searchsorted(self._channels, keys(found, "at", "channel"))
        port = found["carried"].astype("<i8")
        late = (port >> 16) >= np.maximum(found["at"], begin_s)
        code = np.unique(place << 17 | (port & 0xFFFF) << 1 | late)
        before, within = (
            np.bincount(code[code & 1 == late] >> 17, minlength=len(self._channels))
            for late in (0, 1)
        )
        flows = before + np.maximum(within, self._opens)
        more = np.maximum(flows, self._seen > 0) - self._opens
        counts = np.array(opens, "<i8")
        for row in self._of_channel:
            np.add.at(counts, row[row >= 0], more[row >= 0])
        out: list[int] = counts.tolist()
        return out

    def channels(self, columns: dict[str, list[Any]], measure: str, most: int) -> Array:
        """Those of at least ``most`` rows, with most of ``measure``."""
        counted = np.sum([columns[name] for name in COUNTS[measure]], 0)
        least = np.sort(counted)[-most:][0]
        chosen = self._order[(counted >= max(1, least))[self._rows]]
        channels: Array = np.unique(self._units["channel"][chosen])
        return channels

    def reasons(self, found: Columns) -> list[dict[str, int]]:
        """Of each row, its ``drop_reasons`` and how many drops of each."""
        out: list[dict[str, int]] = [{} for _ in range(self.size)]
        at, rows = self.of(found)
        reasons, counts = found["drop_reasons.keys"][at], found["drop_reasons"][at]
        for row, reason, n in zip(rows.tolist(), reasons.tolist(), counts.tolist(), strict=True):
            out[row][reason] = out[row].get(reason, 0) + n
        return out

    def latencies(self, found: Iterable[Columns]) -> dict[str, list[list[float]]]:
        """Milliseconds at each of ``LEVELS``; nothing where nothing is known."""
        sums: dict[str, tuple[int, Array]] = {}
        for part in found:
            both = [rows for rows in self._rows_of(part) if rows.max() >= 0] if part else []
            for name in LATENCIES if both else ():
                if len(part[f"{name}_buckets"]):
                    sums[name] = _added(sums.get(name), self._histograms(part, name, both))
        out: dict[str, list[list[float]]] = {f"{n}_ms": [[]] * self.size for n in LATENCIES}
        for name, (first, counts) in sums.items():
            out[f"{name}_ms"] = histogram.levels_ms(counts, LEVELS, first)
        return out

    def _histograms(self, found: Columns, name: str, both: list[Array]) -> tuple[int, Array]:
        """The first bucket of any row, and from there on how many are in each (rows x buckets)."""
        buckets = found[f"{name}_buckets"]
        first = int(buckets.min())
        width = int(buckets.max()) - first + 1
        sizes = np.diff(found[f"{name}_buckets.ends"].astype("<i8"), prepend=0)
        counts: Array = np.zeros(self.size * width)
        for rows in both:
            place = np.repeat(rows * width - first, sizes) + buckets
            there = place >= 0 if (rows < 0).any() else slice(None)
            counts += np.bincount(place[there], found[f"{name}_counts"][there], len(counts))
        return first, counts.reshape(self.size, width)

    def _told(self, part: str) -> list[Any]:
        key: list[Any] = self._key[part].tolist()
        return [self._names[i] for i in key] if part in SIDES or part == "end" else key

    def _sum(self, values: Array, how: np.ufunc = np.add) -> Array:
        # every row has a unit: the runs are the rows
        summed: Array = how.reduceat(values[self._order], self._starts)
        return summed

    def _path(self) -> Array:
        """What both sides counted, of pairs of ends that both sides told of; -1 without any."""
        units, size = self._units, self._pairs.max() + 1
        near_side = units["reporter"] == Reporter.source
        near = {n: np.where(near_side, units[n], 0) for n in BOTH}
        far = {n: units[f"far_{n}"] for n in BOTH}
        both = np.ones(size, bool)
        for side in (near, far):
            both &= _sum(self._pairs, side["packets"] + side["reply_packets"], size) > 0
        told = both[self._pairs]
        counts = (side[n].astype("<i8") for side in (near, far) for n in BOTH)
        sums = [self._sum(np.where(told, values, 0)) for values in counts]
        some = self._sum(told.astype("<u8")) > 0
        return np.where(some[:, None], np.stack(sums, 1), -1)


def _added(known: tuple[int, Array] | None, more: tuple[int, Array]) -> tuple[int, Array]:
    if known is None:
        return more
    first = min(known[0], more[0])
    last = max(at + counts.shape[1] for at, counts in (known, more))
    out = np.zeros((len(more[1]), last - first))
    for at, counts in (known, more):
        out[:, at - first : at - first + counts.shape[1]] += counts
    return first, out


def _with(one: Array, more: Array, where: Array) -> Array:
    return np.concatenate((one, more[where]))


def codes(columns: list[Array]) -> Array:
    """A number for each distinct row of small numbers."""
    code, size = np.zeros(len(columns[0]), "<i8"), 1
    for column in columns:
        values = int(column.max(initial=0)) + 1
        if size * values >= 2**63:
            code = np.unique(code, return_inverse=True)[1]
            size = len(code)
        code = code * values + column.astype("<i8")
        size *= values
    return code


def _sum(code: Array, values: Array, size: int) -> Array:
    return np.bincount(code, values, size)
