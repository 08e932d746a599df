"""FlowBatch: flow records as numpy columns; strings and endpoints are ids into shared tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowobs import schema

DTYPES: dict[schema.ColumnType, np.dtype[Any]] = {
    "time": np.dtype("<i8"),
    "u8": np.dtype("u1"),
    "u16": np.dtype("<u2"),
    "u32": np.dtype("<u4"),
    "u64": np.dtype("<u8"),
    "ip": np.dtype("u1"),
    "string": np.dtype("<u4"),
}
"""numpy dtype of each column type. ``ip`` columns have shape (rows, 16), all others (rows,)."""

RECORD_TYPES: dict[str, schema.ColumnType] = {
    **{c.name: c.type for c in schema.RECORD_COLUMNS},
    **dict.fromkeys(schema.ENDPOINT_WIRE, "u32"),
}
"""Type of each column of a batch."""

Array = NDArray[Any]

_ZEROS: Array = np.zeros(65_536 * 16, "u1")
_ZEROS.flags.writeable = False
_NOTHING: dict[schema.ColumnType, Array] = {
    t: _ZEROS.reshape(-1, 16) if t == "ip" else _ZEROS.view(DTYPES[t]) for t in DTYPES
}


def nothing(type: schema.ColumnType, rows: int) -> Array:
    """A column of zeros, for reading only. Most columns of most batches are: theirs share memory,
    and need not be copied to be joined (see :func:`is_nothing`)."""
    zeros = _NOTHING[type]
    return zeros[:rows] if rows <= len(zeros) else np.zeros((rows, *zeros.shape[1:]), zeros.dtype)


def is_nothing(column: Array) -> bool:
    """Whether a column is known to be zero throughout, without looking at its rows."""
    return column.base is _ZEROS


def writable(columns: dict[str, Array], name: str) -> Array:
    """A column to write to: shared zeros become its own."""
    column = columns[name]
    if is_nothing(column):
        column = columns[name] = np.zeros_like(column)
    return column


class Strings:
    """An append-only table of distinct strings. Id 0 is always the empty string."""

    __slots__ = ("_ids", "values")

    def __init__(self) -> None:
        self.values: list[str] = [""]
        self._ids: dict[str, int] = {"": 0}

    def __len__(self) -> int:
        return len(self.values)

    def id(self, value: str) -> int:
        """The id of ``value``, given to it now if it has none."""
        found = self._ids.get(value)
        if found is None:
            found = self._ids[value] = len(self.values)
            self.values.append(value)
        return found

    def find(self, value: str) -> int | None:
        """The id of ``value``, or None where it was never seen."""
        return self._ids.get(value)


class Endpoint(NamedTuple):
    """One end of a flow. Fields are ``schema.ENDPOINT_COLUMNS``, in that order."""

    kind: int = schema.EndpointKind.unknown
    cluster: str = ""
    namespace: str = ""
    name: str = ""
    workload: str = ""
    workload_kind: str = ""
    service: str = ""
    node: str = ""
    container: str = ""
    identity_source: str = ""
    zone: str = ""
    labels: str = ""
    services: str = ""
    identity: int = 0


assert Endpoint._fields == tuple(c.name for c in schema.ENDPOINT_COLUMNS)

_TYPES = tuple(c.type for c in schema.ENDPOINT_COLUMNS)
TEXTS = tuple(i for i, type in enumerate(_TYPES) if type == "string")
"""Places of the attributes that are string ids in a row; the others are plain numbers."""


class Endpoints:
    """An append-only table of distinct endpoints. Row 0 is the unknown endpoint.

    ``column(name)`` gives one attribute of all rows as an array (string ids, or the kind's number),
    so that a batch's ``src_namespace`` is one ``take`` away.
    """

    __slots__ = ("_columns", "_ids", "rows", "strings")

    def __init__(self, strings: Strings) -> None:
        self.strings = strings
        self.rows: list[tuple[int, ...]] = []
        self._ids: dict[tuple[int, ...], int] = {}
        self._columns: dict[str, tuple[Array, int]] = {}
        self.id(Endpoint())

    def __len__(self) -> int:
        return len(self.rows)

    def id(self, endpoint: Endpoint) -> int:
        """The row number of ``endpoint``, added now if it is new."""
        id = self.strings.id
        return self.row_id(tuple(id(v) if isinstance(v, str) else int(v) for v in endpoint))

    def row_id(self, row: tuple[int, ...]) -> int:
        """Like :meth:`id`, for a row that already holds string ids."""
        found = self._ids.get(row)
        if found is None:
            found = self._ids[row] = len(self.rows)
            self.rows.append(row)
        return found

    def __getitem__(self, row: int) -> Endpoint:
        cells: list[Any] = list(self.rows[row])
        for at in TEXTS:
            cells[at] = self.strings.values[cells[at]]
        return Endpoint(*cells)

    def column(self, name: str) -> Array:
        """Attribute ``name`` of every row, shape (rows,): its type, u4 string ids for a string.

        Only the rows added since the last call are looked at. One thread may add rows while others
        call this: a cell, once filled, never changes, and who comes second fills in the same value.
        """
        rows = len(self.rows)
        have, filled = self._columns.get(name, (None, 0))
        if have is None or filled < rows:
            at = Endpoint._fields.index(name)
            if have is None or len(have) < rows:
                grown = np.zeros(max(2 * rows, 64), DTYPES[_TYPES[at]])
                if have is not None:
                    grown[:filled] = have[:filled]
                have = grown
            new = self.rows[filled:rows]
            have[filled:rows] = np.fromiter((r[at] for r in new), have.dtype, len(new))
            self._columns[name] = (have, rows)
        return have[:rows]


class FlowBatch:
    """Flow records as columns.

    ``columns`` holds every name of ``schema.RECORD_COLUMNS`` plus ``src_endpoint`` and
    ``dst_endpoint`` (u4 rows of ``endpoints``). String columns hold ids of ``endpoints.strings``.
    """

    __slots__ = ("columns", "endpoints")

    def __init__(self, columns: dict[str, Array], endpoints: Endpoints) -> None:
        self.columns = columns
        self.endpoints = endpoints

    @classmethod
    def zeros(cls, rows: int, endpoints: Endpoints, *, shared: Collection[str] = ()) -> FlowBatch:
        """A batch of ``rows`` records in which everything is zero or empty.

        Columns named in ``shared`` take no memory until they are asked for with :func:`writable`.
        """
        zeros = {type: nothing(type, rows) for type in DTYPES}
        columns: dict[str, Array] = {
            name: zeros[type]
            if name in shared
            else np.zeros((rows, 16) if type == "ip" else rows, DTYPES[type])
            for name, type in RECORD_TYPES.items()
        }
        return cls(columns, endpoints)

    @classmethod
    def concat(cls, batches: Sequence[FlowBatch]) -> FlowBatch:
        """One batch of all rows, in order, of batches (at least one) that share an endpoint table.

        Raises ValueError where they do not.
        """
        first = batches[0]
        if len(batches) == 1:
            return first
        if any(b.endpoints is not first.endpoints for b in batches):
            raise ValueError("batches of different endpoint tables cannot be joined")
        rows = sum(map(len, batches))
        zeros = {type: nothing(type, rows) for type in DTYPES}
        columns = [b.columns for b in batches]
        joined = {}
        for name, type in RECORD_TYPES.items():
            parts = [c[name] for c in columns]
            # is_nothing, without a call for each column of each batch
            nothing_in_it = all([part.base is _ZEROS for part in parts])
            joined[name] = zeros[type] if nothing_in_it else np.concatenate(parts)
        return cls(joined, first.endpoints)

    def __len__(self) -> int:
        return len(self.columns["time"])

    def __getitem__(self, name: str) -> Array:
        """A column by its flat name, endpoint attributes (``src_namespace`` ...) included."""
        have = self.columns.get(name)
        if have is not None:
            return have
        side, _, attribute = name.partition("_")
        if side not in ("src", "dst") or attribute not in Endpoint._fields:
            raise KeyError(name)
        taken: Array = self.endpoints.column(attribute)[self.columns[f"{side}_endpoint"]]
        return taken

    def select(self, where: Array | slice) -> FlowBatch:
        """The rows of a boolean mask, an index array or a slice, as a new batch."""
        return FlowBatch({k: v[where] for k, v in self.columns.items()}, self.endpoints)

    def strings(self, name: str) -> list[str]:
        """A string column as Python strings: for people, not for hot paths."""
        values = self.endpoints.strings.values
        return [values[i] for i in self[name].tolist()]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows as JSON-ready dicts with the schema's names (see :mod:`flowobs.rows`)."""
        from flowobs.rows import row_dicts

        values = self.endpoints.strings.values
        table: Mapping[str, list[Any]] = {
            c.name: (
                [v.tobytes() for v in self[c.name]]
                if c.type == "ip"
                else [values[i] for i in self[c.name].tolist()]
                if c.type == "string"
                else self[c.name].tolist()
            )
            for c in schema.COLUMNS
        }
        return row_dicts(table, len(self))
