"""Who the ends of rollups are. An id is a hash of all that is known of its end, so who it is never
changes: what was asked once is kept, and who looks at a map again asks for nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from relay.store.arrays import Array
from relay.store.names import LABEL, SHOWN
from relay.store.paths import MAX_ADDRESSES, Paths
from relay.store.reader import Table

MOST: Final = 100_000
"""Ends that are kept, of all groups together: 50 to 300 bytes each."""
_WORKLOAD: Final = SHOWN.index("workload")

Query = Callable[[str, dict[str, Any]], Table]


@dataclass(frozen=True, slots=True)
class Known:
    """Ends, and the nodes of one group that they belong to."""

    labels: list[str]
    """Ids of nodes."""
    fields: list[tuple[Any, ...]]
    """Attributes of ends, as in ``SHOWN``."""
    ids: Array
    """Of ends, ascending."""
    label: Array
    """Of each end, its place in ``labels``."""
    field: Array
    """Of each end, its place in ``fields``."""
    ip: Array

    def places(self, ids: Array) -> Array:
        """Where in ``labels`` ends are; behind the last where one is not known."""
        if not len(self.ids):
            return np.zeros(len(ids), "<i4")
        at = np.searchsorted(self.ids, ids).clip(0, len(self.ids) - 1)
        found: Array = np.where(self.ids[at] == ids, self.label[at], len(self.labels))
        return found

    def nodes(self, used: Array, ids: Array, last: Array) -> Table:
        """A row per node of ``used``, places in ``labels``: ``id``, ``fields``, ``addresses``.

        Of a node's ends among ``ids``, the one seen ``last`` tells its attributes.
        """
        places = self.places(ids)
        there = np.isin(places, used) & (places < len(self.labels))
        at = np.searchsorted(self.ids, ids[there])
        owned = [self.fields[i][_WORKLOAD] != "" for i in self.field[at].tolist()]
        at = at[np.lexsort((last[there], owned, places[there]))]
        label = self.label[at]
        newest = np.flatnonzero(label != np.append(label[1:], -1))
        ips = self.ip[at].tolist()
        begin, addresses = 0, []
        for end in (newest + 1).tolist():
            of_node = ips[begin:end]
            if end > begin + 1:
                of_node = list(dict.fromkeys(reversed(of_node)))[:MAX_ADDRESSES]
            addresses.append(of_node)
            begin = end
        columns = {
            "id": [self.labels[i] for i in label[newest].tolist()],
            "fields": [self.fields[i] for i in self.field[at[newest]].tolist()],
            "addresses": addresses,
        }
        return Table(columns, len(newest))


class Ends:
    """Asks who ends are, and keeps it; for any threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: dict[str, Known] = {}
        """By group. It is replaced, not changed: nobody waits."""

    def known(self, query: Query, paths: Paths, group: str, ids: Array) -> Known:
        """All that the store knows of ``ids``, and perhaps others. Blocks; raises StoreError."""
        known = self._known.get(group, _NOBODY)
        new = ids[~np.isin(ids, known.ids)]
        if not len(new):
            return known
        parameters = {"label": group.removeprefix(LABEL)} if group.startswith(LABEL) else {}
        known = _joined(known, query(paths.nodes_sql(group, new), parameters))
        others = {name: kept for name, kept in self._known.items() if name != group}
        if sum(len(kept.ids) for kept in others.values()) + len(known.ids) > self._most:
            others = {}
        self._known = others | ({group: known} if len(known.ids) <= self._most else {})
        return known


_NOBODY: Final = Known([], [], *(np.zeros(0, type) for type in ("<u8", "<i4", "<i4", "V16")))


def _joined(known: Known, table: Table) -> Known:
    """``known``, and rows of ``Paths.nodes_sql``."""
    labels = {label: i for i, label in enumerate(known.labels)}
    fields = {values: i for i, values in enumerate(known.fields)}
    label = [labels.setdefault(text, len(labels)) for text in table["label"]]
    field = [fields.setdefault(values, len(fields)) for values in table["fields"]]
    sizes = [len(ids) for ids in table["ids"]]
    new = np.array([id for ids in table["ids"] for id in ids], "<u8")
    ip = np.frombuffer(b"".join(ip for ips in table["ips"] for ip in ips), "V16")
    ids, at = np.unique(np.append(known.ids, new), return_index=True)
    return Known(
        list(labels),
        list(fields),
        ids,
        np.append(known.label, np.repeat(label, sizes).astype("<i4"))[at],
        np.append(known.field, np.repeat(field, sizes).astype("<i4"))[at],
        np.append(known.ip, ip)[at],
    )
