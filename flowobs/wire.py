"""FlowBatch <-> protobuf: one bytes field per column, dictionary ids for strings and endpoints."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowobs import schema
from flowobs._proto.flowobs.v1 import flow_pb2 as pb
from flowobs.batch import DTYPES, Array, Endpoint, Endpoints, FlowBatch, Strings

_WIDTH: dict[schema.ColumnType, int] = {t: (16 if t == "ip" else DTYPES[t].itemsize) for t in DTYPES}
_BY_ID: dict[int, tuple[str, schema.ColumnType]] = {c.wire: (c.name, c.type) for c in schema.RECORD_COLUMNS} | {
    wire: (name, "u32") for name, wire in schema.ENDPOINT_WIRE.items()
}


class WireError(ValueError):
    """What came over the wire is not a valid message; the text says what is wrong with it."""


def encode(batch: FlowBatch, group: int, *, close: bool = False) -> bytes:
    """A serialized MicroBatch. Columns that are zero throughout are left out."""
    message = pb.MicroBatch(group=group, rows=len(batch), close=close)
    if len(batch):
        for wire, (name, _) in _BY_ID.items():
            values = batch.columns[name]
            if values.any():
                message.columns.add(id=wire, data=np.ascontiguousarray(values).tobytes())
    return message.SerializeToString()


class Decoder:
    """Turns one stream's messages into batches of the receiver's own endpoint table.

    Ids are per sender and epoch; ``strings`` and ``endpoints`` map them to the receiver's table with one ``take``.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.strings = np.zeros(1, DTYPES["string"])
        self.rows = np.zeros(1, DTYPES["u32"])

    def dictionary(self, message: pb.Dictionary) -> None:
        """Learn new strings and endpoints. Raises WireError where they do not continue what is known."""
        if message.strings:
            if message.strings_base not in (0, len(self.strings)):
                raise WireError(f"dictionary starts at string {message.strings_base}, expected {len(self.strings)}")
            intern = self.endpoints.strings.id
            new = np.fromiter(map(intern, message.strings), DTYPES["string"], len(message.strings))
            self.strings = new if message.strings_base == 0 else np.concatenate((self.strings, new))
            if self.strings[0] != 0:
                raise WireError("string 0 must be empty")
        if message.endpoints:
            width = len(Endpoint._fields)
            raw = _column(message.endpoints, np.dtype("<u4"), "endpoints").reshape(-1)
            if len(raw) % width:
                raise WireError(f"endpoint table is not a whole number of {width}-column rows")
            table = raw.reshape(-1, width)
            if message.endpoints_base not in (0, len(self.rows)):
                raise WireError(f"dictionary starts at endpoint {message.endpoints_base}, expected {len(self.rows)}")
            mapped = table.copy()
            mapped[:, 1:] = _take(self.strings, table[:, 1:], "string id in the endpoint table")
            new = np.fromiter(
                (self.endpoints.row_id(tuple(row)) for row in mapped.tolist()), DTYPES["u32"], len(mapped)
            )
            self.rows = new if message.endpoints_base == 0 else np.concatenate((self.rows, new))

    def batch(self, data: bytes) -> tuple[pb.MicroBatch, FlowBatch]:
        """Decode a serialized MicroBatch. Raises WireError."""
        try:
            message = pb.MicroBatch.FromString(data)
        except Exception as error:
            raise WireError(f"not a MicroBatch: {error}") from None
        if message.rows > MAX_ROWS:
            raise WireError(f"a batch of {message.rows} rows is over the limit of {MAX_ROWS}")
        batch = FlowBatch.zeros(message.rows, self.endpoints)
        for column in message.columns:
            known = _BY_ID.get(column.id)
            if known is None:
                continue  # a newer agent: columns we do not know are left out
            name, type = known
            if len(column.data) != message.rows * _WIDTH[type]:
                raise WireError(f"column {name}: {len(column.data)} bytes for {message.rows} rows")
            values = _column(column.data, DTYPES[type], name)
            if type == "ip":
                values = values.reshape(-1, 16)
            elif type == "string":
                values = _take(self.strings, values, f"string id in {name}")
            elif name in schema.ENDPOINT_WIRE:
                values = _take(self.rows, values, f"row in {name}")
            batch.columns[name] = values
        return message, batch


MAX_ROWS = 1_000_000
"""Most rows a micro-batch may hold: bounds what a hostile sender can make us allocate."""


def _column(data: bytes, dtype: np.dtype[Any], name: str) -> Array:
    if len(data) % dtype.itemsize:
        raise WireError(f"column {name}: {len(data)} bytes is not a whole number of {dtype.itemsize}-byte values")
    return np.frombuffer(data, dtype)


def _take(table: Array, ids: Array, what: str) -> Array:
    if ids.size and int(ids.max()) >= len(table):
        raise WireError(f"unknown {what}: {int(ids.max())} of {len(table)}")
    taken: Array = table[ids]
    return taken


class Encoder:
    """The sending half of a stream's dictionary: what of a table the receiver does not have yet."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self._strings_sent = 0
        self._endpoints_sent = 0

    @property
    def strings(self) -> Strings:
        return self.endpoints.strings

    def pending(self) -> pb.Dictionary | None:
        """The rows added since the last call (everything at first), or None."""
        strings, rows = self.strings.values, self.endpoints.rows
        if self._strings_sent == len(strings) and self._endpoints_sent == len(rows):
            return None
        message = pb.Dictionary(
            strings_base=self._strings_sent,
            strings=strings[self._strings_sent :],
            endpoints_base=self._endpoints_sent,
            endpoints=np.array(rows[self._endpoints_sent :], "<u4").tobytes(),
        )
        self._strings_sent, self._endpoints_sent = len(strings), len(rows)
        return message
