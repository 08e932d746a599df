"""Who the ends of rollups are. An id is a hash of all that is known of its end, so who it is never
changes: what was asked once is kept, and who looks at a map again asks for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from relay.store.arrays import Array
from relay.store.names import LABEL, SHOWN
from relay.store.paths import MAX_ADDRESSES, Paths
from relay.store.reader import Table

MOST: Final = 100_000
"""Ends that are kept, of all groups together: 50 to 300 bytes each."""
_RATIO: Final = 8
"""So a new end is copied some twenty times, however many there are, and looked for in few runs."""
_WORKLOAD: Final = SHOWN.index("workload")

T = TypeVar("T")
Query = Callable[[str, dict[str, Any]], Table]


class _Run(NamedTuple):
    """Some ends; arrays of the same length."""

    ids: Array
    """Ascending."""
    label: Array
    """Of each end, its place in ``labels``."""
    field: Array
    """Of each end, its place in ``fields``."""
    ip: Array


@dataclass(frozen=True, slots=True)
class Known:
    """Ends, and the nodes of one group that they belong to."""

    labels: dict[str, int]
    """Ids of nodes and their places; those from ``size`` on came later, and are for others."""
    fields: dict[tuple[Any, ...], int]
    """Attributes of ends, as in ``SHOWN``, and their places."""
    names: list[str]
    """The labels by place."""
    shown: list[tuple[Any, ...]]
    """The fields by place."""
    runs: tuple[_Run, ...] = ()
    """The ends: each run is at least ``_RATIO`` times as long as the next one."""
    size: int = 0
    """How many labels there are."""

    def __len__(self) -> int:
        return sum(len(run.ids) for run in self.runs)

    def places(self, ids: Array) -> Array:
        """Which label ends have; ``size`` where one is not known."""
        return self._found(ids).label

    def label_of(self, place: int) -> str:
        """The label at ``place``; empty where that is of no known end."""
        return self.names[place] if place < self.size else ""

    def nodes(self, used: Array, ids: Array, last: Array) -> Table:
        """A row per node of ``used``, places of labels: ``id``, ``fields``, ``addresses``.

        Of a node's ends among ``ids``, the one seen ``last`` tells its attributes.
        """
        found = self._found(ids)
        there = np.isin(found.label, used) & (found.label < self.size)
        label, field, ip = (column[there] for column in found[1:])
        owned = [self.shown[i][_WORKLOAD] != "" for i in field.tolist()]
        order = np.lexsort((last[there], owned, label))
        label, field = label[order], field[order]
        newest = np.flatnonzero(label != np.append(label[1:], -1))
        ips = ip[order].tolist()
        begin, addresses = 0, []
        for end in (newest + 1).tolist():
            of_node = ips[begin:end]
            if end > begin + 1:
                of_node = list(dict.fromkeys(reversed(of_node)))[:MAX_ADDRESSES]
            addresses.append(of_node)
            begin = end
        columns = {
            "id": [self.names[i] for i in label[newest].tolist()],
            "fields": [self.shown[i] for i in field[newest].tolist()],
            "addresses": addresses,
        }
        return Table(columns, len(newest))

    def joined(self, table: Table) -> Known:
        """With rows of ``Paths.nodes_sql``; of each ``Known``, once."""
        if not table.rows:
            return self
        label = [_place(self.labels, self.names, text) for text in table["label"]]
        field = [_place(self.fields, self.shown, values) for values in table["fields"]]
        sizes = [len(ids) for ids in table["ids"]]
        new = _Run(
            np.array([id for ids in table["ids"] for id in ids], "<u8"),
            np.repeat(label, sizes).astype("<i4"),
            np.repeat(field, sizes).astype("<i4"),
            np.frombuffer(b"".join(ip for ips in table["ips"] for ip in ips), "V16"),
        )
        runs = [*self.runs, _some(new, np.argsort(new.ids))]
        while len(runs) > 1 and len(runs[-2].ids) < _RATIO * len(runs[-1].ids):
            both = _Run(*map(np.concatenate, zip(*runs[-2:], strict=True)))
            runs[-2:] = [_some(both, np.unique(both.ids, return_index=True)[1])]
        return replace(self, runs=tuple(runs), size=len(self.names))

    def _found(self, ids: Array) -> _Run:
        """Of each of ``ids``, in their order; labels are ``size`` where one is not known."""
        zeros = np.zeros(len(ids), "<i4")
        found = _Run(ids, zeros + self.size, zeros, np.zeros(len(ids), "V16"))
        for run in self.runs:
            if len(run.ids):
                at = np.searchsorted(run.ids, ids).clip(0, len(run.ids) - 1)
                there = run.ids[at] == ids
                for column, values in zip(found[1:], run[1:], strict=True):
                    column[there] = values[at[there]]
        return found


class Ends:
    """Asks who ends are, and keeps it; for any threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: dict[str, Known] = {}
        """By group."""
        self._lock = threading.Lock()

    def known(self, query: Query, paths: Paths, group: str, ids: Array) -> Known:
        """All that the store knows of ``ids``, and perhaps others. Blocks; raises StoreError."""
        known = self._known.get(group) or _nobody()
        new = ids[known.places(ids) == known.size]
        if not len(new):
            return known
        parameters = {"label": group.removeprefix(LABEL)} if group.startswith(LABEL) else {}
        table = query(paths.nodes_sql(group, new), parameters)
        with self._lock:  # what others came to know meanwhile is there, too
            known = (self._known.pop(group, None) or _nobody()).joined(table)
            if sum(map(len, self._known.values())) + len(known) > self._most:
                self._known.clear()
            if len(known) <= self._most:
                self._known[group] = known
        return known


def _nobody() -> Known:
    return Known({}, {}, [], [])


def _place(places: dict[T, int], values: list[T], value: T) -> int:
    place = places.setdefault(value, len(values))
    if place == len(values):
        values.append(value)
    return place


def _some(run: _Run, which: Array) -> _Run:
    return _Run(*(column[which] for column in run))
