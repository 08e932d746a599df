"""Records as JSON text, one ``bytes`` a record: what the API sends, and what tells records apart.

A record gives the same bytes whether it comes from memory (:func:`batch_lines`) or from the store
(:func:`table_lines`). So equal bytes are the same record, and sorting lines sorts them by time: the
time comes first and has a fixed width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from flowobs import schema
from flowobs.batch import Array, Endpoints, FlowBatch, Strings
from flowobs.rows import NO_ADDRESS, ip_text, row_dicts, time_text

_encode = msgspec.json.Encoder().encode

TIME_END = len(b'{"time":"2026-01-01T00:00:00.000000000Z"')
"""Lines up to here sort by time alone."""


def table_lines(table: Mapping[str, list[Any]], rows: int) -> list[bytes]:
    """Lines of a table of Python lists, as a store query gives it."""
    if not rows:
        return []
    parts = [_texts(c, table[c.name]) for c in schema.COLUMNS if c.name in table]
    return [f"{{{''.join(row)[1:]}}}".encode() for row in zip(*filter(None, parts), strict=True)]


def _texts(column: schema.Column, values: list[Any]) -> list[str] | None:
    """A column's part of each line; None where it has none."""
    head = f',"{column.name}":'
    if column.type == "time":
        return [f'{head}"{time}"' for time in _times(np.array(values, "<i8"))]
    if column.enum is None and column.type not in ("string", "ip"):
        if not column.optional:
            return [f"{head}{v}" for v in values]
        return [f"{head}{v}" if v else "" for v in values] if any(values) else None
    # few values repeat in many rows
    known = {v: _fragment(next(row_dicts({column.name: [v]}, 1))) for v in set(values)}
    return [known[v] for v in values] if any(known.values()) else None


class Lines:
    """Makes lines of batches, column by column: about a quarter of the cost of a dict per row.

    What repeats (endpoints, strings, addresses) is made into text once and kept while the batches
    come from the same endpoint table; a new table starts anew. Not thread-safe.
    """

    def __init__(self) -> None:
        self._table: Endpoints | None = None
        self._ends: dict[str, dict[int, str]] = {}
        self._strings: dict[str, dict[int, str]] = {}

    def __call__(self, batch: FlowBatch) -> list[bytes]:
        """One line per record, in the batch's order."""
        if not len(batch):
            return []
        if batch.endpoints is not self._table:
            self._table = batch.endpoints
            self._ends = {name: {} for name in schema.ENDPOINT_WIRE}
            self._strings = {c.name: {} for c in schema.RECORD_COLUMNS if c.type == "string"}
        parts = [
            self._column(column, batch)
            for column in schema.RECORD_COLUMNS
            if not column.optional or batch.columns[column.name].any()
        ]
        for name, known in self._ends.items():
            if batch.columns[name].any():
                parts.append(_by_id(batch.columns[name], known, _end_text(name, batch.endpoints)))
        return [f"{{{''.join(row)[1:]}}}".encode() for row in zip(*parts, strict=True)]

    def _column(self, column: schema.Column, batch: FlowBatch) -> list[str]:
        values, head = batch.columns[column.name], f',"{column.name}":'
        if column.type == "string":
            text = _string_text(head, batch.endpoints.strings)
            return _by_id(values, self._strings[column.name], text)
        if column.type == "ip":
            raw = values.tobytes()
            addresses = (raw[i : i + 16] for i in range(0, len(raw), 16))
            if column.optional:
                return [f'{head}"{ip_text(a)}"' if a != NO_ADDRESS else "" for a in addresses]
            return [f'{head}"{ip_text(a)}"' for a in addresses]
        if column.type == "time":
            return [f'{head}"{time}"' for time in _times(values)]
        names = _ENUM_TEXTS.get(column.name)
        if names is not None:
            return [names[number] for number in values.tolist()]
        if column.optional:
            return [f"{head}{v}" if v else "" for v in values.tolist()]
        return [f"{head}{v}" for v in values.tolist()]


def _by_id(ids: Array, known: dict[int, str], make: Callable[[int], str]) -> list[str]:
    for new in np.unique(ids).tolist():
        if new not in known:
            known[new] = make(new)
    return [known[i] for i in ids.tolist()]


def _string_text(head: str, strings: Strings) -> Callable[[int], str]:
    return lambda i: head + _encode(strings.values[i]).decode() if i else ""


def _end_text(name: str, endpoints: Endpoints) -> Callable[[int], str]:
    side = name.partition("_")[0]

    def make(row: int) -> str:
        values = endpoints[row]._asdict()
        table = {f"{side}_{attribute}": [value] for attribute, value in values.items()}
        return _fragment(next(row_dicts(table, 1)))

    return make


def _fragment(row: dict[str, Any]) -> str:
    text = _encode(row).decode()[1:-1]
    return f",{text}" if text else ""


_ENUM_TEXTS = {
    c.name: [_fragment(row) for row in row_dicts({c.name: list(range(256))}, 256)]
    for c in schema.RECORD_COLUMNS
    if c.enum
}


def _times(ns: Array) -> Iterator[str]:
    seconds, rest = np.divmod(ns, 1_000_000_000)
    head = {s: time_text(s * 1_000_000_000)[:20] for s in np.unique(seconds).tolist()}
    for second, nanoseconds in zip(seconds.tolist(), rest.tolist(), strict=True):
        yield f"{head[second]}{nanoseconds:09d}Z"
