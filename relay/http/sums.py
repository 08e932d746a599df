"""Counters of traffic from rollups, added up: few columns, and nothing else of what there is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, Final

import numpy as np

from flowobs.filters import EVERYTHING
from flowobs.measures import COUNTS
from relay.http.best import Best, runs
from relay.http.grouped import codes
from relay.http.queries import Session
from relay.http.traffic import Key
from relay.http.traffic_sql import OTHER
from relay.http.trends import largest
from relay.store import StoreError
from relay.store.arrays import Array, Columns
from relay.store.paths import MOST, Paths, keys
from relay.store.plan import Slice
from relay.store.rollup import KEYS, OF_PATH, SUMS

_CHOOSE: Final = ("packets", "reply_packets", "seen")
_RETRANSMITS: Final = ("retransmit_events", "again")
_ENDS: Final = ("src", "dst", "proto", "port")
_FEW_STEPS: Final = 24
_GROUPS: Final = 400_000
"""About so many are in one question: more would go to disk. So many rows are sooner added up here
than by the engine."""
_MOST_ROWS: Final = 30_000_000
"""About half a minute's work."""
_SHARES: Final = 16
"""Of channels, each a question, where there are more than ``MOST`` points."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What the traffic of ``paths`` has of ``counters``, by what ``measured`` is asked for."""

    session: Session
    paths: Paths
    counters: Sequence[str]
    group: str
    by: str
    only: Sequence[Any]

    def values(self, most: int) -> dict[Key, float]:
        """What is not 0; with ``most``, that many, the largest first. Blocks; StoreError."""
        found: dict[Key, float] = {}
        for points in self._points():
            for key, value in self._added(points):
                found[key] = found.get(key, 0) + value
        return {key: found[key] for key in largest(found, most)} if most else found

    def _points(self) -> Iterator[Columns]:
        """What each path counted of a piece of the time; all of a channel's are in one."""
        paths = self.paths
        if paths.steps <= _FEW_STEPS:
            yield from self._grouped(paths.plan.slices)
            return
        found = None
        if paths.filter != EVERYTHING:
            found = self._asked(paths.plan.slices, _GROUPS, grouped=False)
        if found is None:
            sample = self.session.query(paths.sample_sql(self._piece_s), paths.parameters)
            rows, groups = (sample[name][0] for name in ("rows", "groups"))
            if rows > _MOST_ROWS:
                raise StoreError(
                    f"about {rows:,} rows match: ask about a shorter time, or for less with a"
                    " filter"
                )
            for parts in paths.cut(groups // _GROUPS + 1):
                yield from self._grouped(parts)
        elif found:
            yield found

    def _grouped(self, parts: Sequence[Slice]) -> Iterator[Columns]:
        found = self._asked(parts, MOST)
        if found is not None:
            yield from [found] if found else []
            return
        for i in range(_SHARES):
            found = self._asked(parts, MOST, f"channel % {_SHARES} = {i}")
            if found is None:
                raise StoreError(
                    f"more than {_SHARES * MOST:,} paths match: ask about a shorter time, or for"
                    " less with a filter"
                )
            if found:
                yield found

    def _asked(
        self, parts: Sequence[Slice], most: int, condition: str = "1", grouped: bool = True
    ) -> Columns | None:
        """A row for each point and piece; None where the engine has more than ``most`` rows.

        It adds them up if ``grouped``: else rows are what tables have.
        """
        of = ["path", "channel", "reporter", *self._ends]
        counters = _RETRANSMITS if self.counters == COUNTS["retransmits"] else self.counters
        known = {name: how for name, (_, how) in (KEYS | OF_PATH).items()}
        made = {name: known[name] for name in of}
        made |= {name: f"toUInt64({SUMS[name]})" for name in (*_CHOOSE, *counters)}
        sums = {"packets": "packets + reply_packets"}
        if counters is _RETRANSMITS:
            sums |= {name: name for name in counters}
        else:
            sums |= {counters[0]: " + ".join(counters)}
        columns = [f"{Paths(self.paths.plan, self.paths.filter, self._piece_s).at()} AS at"]
        if grouped:
            columns += ["path", *(f"any({name}) AS {name}" for name in of[1:])]
            columns += [f"sum({how}) AS {name}" for name, how in sums.items()]
            columns.append("max(seen > 0) AS seen")
        else:
            columns += [
                *of,
                *(f"{how} AS {name}" for name, how in sums.items()),
                "seen > 0 AS seen",
            ]
        end = f"{'GROUP BY at, path ' * grouped}LIMIT {most + 1}"
        found = self.session.arrays(
            " UNION ALL ".join(
                f"SELECT {', '.join(columns)} FROM {self.paths.rows(part, made, condition)} {end}"
                for part in parts
            ),
            self.paths.parameters,
        )
        if not found:
            return {}
        if len(found["path"]) > most:
            return None
        return found if grouped and len(parts) == 1 else _merged(found, (*sums, "seen"))

    def _added(self, points: Columns) -> Iterator[tuple[Key, float]]:
        """What is not 0, by key."""
        best = Best(points, points["packets"], keys(points, "at", "channel"))
        counted = best.counted(self.counters[0])
        some = counted > 0
        counted, chosen = counted[some], best.chosen[some]
        of, row, names = self._named(
            {name: points[name][chosen] for name in self._ends}, len(chosen)
        )
        at, step_s = points["at"][chosen].astype("<i8"), self.paths.step_s
        step = at // step_s if step_s else np.zeros(len(at), "<i8")
        first, last = step.min(initial=2**62), step.max(initial=0)
        code = row * (last - first + 1) + step[of] - first
        found, at_found = np.unique(code, return_inverse=True)
        values = np.bincount(at_found, counted[of]).astype("<i8")
        row, step = np.divmod(found, last - first + 1)
        for i, at, value in zip(
            row.tolist(), ((step + first) * step_s).tolist(), values.tolist(), strict=True
        ):
            yield ((*names[i], at) if step_s else names[i]), value

    def _named(self, ends: Columns, size: int) -> tuple[Array, Array, list[Key]]:
        """Which row each of ``ends`` is of, some twice: these, the rows, and their keys."""
        every = np.arange(size)
        if not self.by:
            return every, np.zeros(size, "<i8"), [()]
        ids, end = np.unique(np.concatenate((ends["src"], ends["dst"])), return_inverse=True)
        known = self.session.ends.known(self.session.query, self.paths, self.group, ids)
        used, place = np.unique(known.places(ids), return_inverse=True)
        labels = [known.label_of(i) for i in used.tolist()]
        sides = place[end].reshape(2, -1)
        rows = {"source": sides[:1], "destination": sides[1:], "end": sides}.get(self.by)
        names: list[Any] = labels
        if rows is None:
            channel = [ends[name].astype("<i8") for name in ("proto", "port")]
            row = np.unique(codes([*sides, *channel]), return_inverse=True)[1]
            one = np.zeros(row.max(initial=-1) + 1, "<i8")
            one[row] = every
            edges = zip(*(column[one].tolist() for column in (*sides, *channel)), strict=True)
            names = [(labels[src], labels[dst], *channel) for src, dst, *channel in edges]
            rows = row[None]
        if self.only:
            nth = {name: i for i, name in enumerate(self.only)}
            rows = np.array([nth.get(name, len(nth)) for name in names])[rows]
            names = [*self.only, OTHER]
        apart = rows[-1] != rows[0]  # what stays within an end counts once
        of = np.concatenate((every, every[apart]))
        return of, np.concatenate((rows[0], rows[-1][apart])), [(name,) for name in names]

    @property
    def _ends(self) -> Sequence[str]:
        return _ENDS if self.by else ()

    @property
    def _piece_s(self) -> int:
        """For so long a path is chosen: the smaller one of unit and step."""
        return gcd(self.paths.unit_s, self.paths.step_s)


def _merged(rows: Columns, sums: Collection[str]) -> Columns:
    """One row for each point and piece."""
    key = keys(rows, "at", "path")
    order = np.argsort(key)
    starts = runs(key[order])[0]
    if len(starts) == len(key):
        return rows
    out = {name: values[order[starts]] for name, values in rows.items()}
    return out | {name: np.add.reduceat(rows[name][order], starts, dtype="<u8") for name in sums}
