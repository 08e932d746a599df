"""FlowBatch -> ClickHouse Native blocks, column by column with numpy.

A block is: varint columns, varint rows, then per column its name, its type and its data. The data
of a LowCardinality column is: version 1 (u64), index width | 0x600 (u64: own keys follow), number
of keys (u64), the keys, number of rows (u64), an index per row. Key 0 is always the empty string.

Columns that are zero or empty throughout are left out, and the engine fills them in: most are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby

import numpy as np

from flowobs import schema
from flowobs.batch import Array, Endpoints, FlowBatch, is_nothing
from flowobs.wire import varint
from relay.store.ddl import store_type

_LOW_CARDINALITY_VERSION = b"\x01\0\0\0\0\0\0\0"
_OWN_KEYS = 0x600
_INDEX_TYPES = (np.dtype("u1"), np.dtype("<u2"), np.dtype("<u4"))


@lru_cache(maxsize=65536)  # the same few thousand names are in every insert
def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "replace")
    return varint(len(raw)) + raw


_HEADS = {c.name: _text(c.name) + _text(store_type(c)) for c in schema.COLUMNS}


def to_native(batches: Sequence[FlowBatch]) -> list[bytes]:
    """The batches' rows as Native blocks: pieces whose concatenation is the body of an insert.

    Consecutive batches of one endpoint table share a block. Batches without rows leave no trace.
    """
    out: list[bytes] = []
    full = [b for b in batches if len(b)]
    for _, run in groupby(full, key=lambda b: id(b.endpoints)):
        out.extend(_block(list(run)))
    return out


def _block(batches: list[FlowBatch]) -> Iterator[bytes]:
    rows = sum(map(len, batches))
    columns = [*_of_records(batches), *_of_ends(batches)]
    yield varint(len(columns)) + varint(rows)
    for name, pieces in columns:
        yield _HEADS[name]
        yield from pieces


def _of_records(batches: list[FlowBatch]) -> Iterator[tuple[str, Iterable[bytes]]]:
    endpoints = batches[0].endpoints
    for column in schema.RECORD_COLUMNS:
        arrays = [b.columns[column.name] for b in batches]
        # a block without any column would have no rows
        if column.name != "time" and all(map(is_nothing, arrays)):
            continue
        if column.type == "string":
            yield column.name, _strings(_joined(arrays), endpoints)
        else:
            yield column.name, (np.ascontiguousarray(a).tobytes() for a in arrays)


def _of_ends(batches: list[FlowBatch]) -> Iterator[tuple[str, Iterable[bytes]]]:
    endpoints = batches[0].endpoints
    for side in ("src", "dst"):
        used, compact = _compact(_joined([b.columns[f"{side}_endpoint"] for b in batches]))
        for column in schema.ENDPOINT_COLUMNS:
            values = endpoints.column(column.name)[used]
            if not values.any():
                continue
            if column.type == "string":
                yield f"{side}_{column.name}", _keyed(values, compact, endpoints)
            else:
                yield f"{side}_{column.name}", (values.take(compact).tobytes(),)


def _joined(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _compact(ids: Array) -> tuple[Array, Array]:
    """The distinct ids, ascending, and each row's index among them, without sorting the rows."""
    flags = np.zeros(int(ids.max()) + 1, bool)
    flags[ids] = True
    used = np.flatnonzero(flags)
    table = np.empty(len(flags), _index_type(len(used)))
    table[used] = np.arange(len(used))
    return used, table.take(ids)


def _index_type(size: int) -> np.dtype[np.unsignedinteger]:
    return _INDEX_TYPES[0 if size <= 1 << 8 else 1 if size <= 1 << 16 else 2]


def _strings(ids: Array, endpoints: Endpoints) -> Iterator[bytes]:
    used, compact = _compact(ids)
    return _keyed(used, compact, endpoints)


def _keyed(string_ids: Array, compact: Array, endpoints: Endpoints) -> Iterator[bytes]:
    """A LowCardinality column: row i holds string ``string_ids[compact[i]]``."""
    keys, inverse = np.unique(np.concatenate(([0], string_ids)), return_inverse=True)
    values = endpoints.strings.values
    index = inverse[1:].astype(_index_type(len(keys)))
    yield _LOW_CARDINALITY_VERSION
    yield np.array([_OWN_KEYS | _INDEX_TYPES.index(index.dtype), len(keys)], "<u8").tobytes()
    yield b"".join([_text(values[i]) for i in keys.tolist()])
    yield np.array([len(compact)], "<u8").tobytes()
    yield index.take(compact).tobytes()
