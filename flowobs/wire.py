"""FlowBatch <-> protobuf: one bytes field per column, dictionary ids for strings and endpoints."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from flowobs import schema
from flowobs._proto.flowobs.v1 import flow_pb2 as pb
from flowobs.batch import (
    DTYPES,
    RECORD_TYPES,
    TEXTS,
    Array,
    Endpoint,
    Endpoints,
    FlowBatch,
    is_nothing,
    nothing,
)

MAX_ROWS = 50_000
"""Most rows a micro-batch may hold: bounds what a hostile sender can make us allocate (12 MB)."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Largest gRPC message either end takes; a micro-batch of ``MAX_ROWS`` rows fits."""

MAX_DICTIONARY_ROWS = 200_000
"""Most strings, and most endpoints, of one sender's epoch. Agents begin a new epoch long before."""

MAX_DICTIONARY_CHARACTERS = 32 * 1024 * 1024
"""Most text one sender's strings may hold together."""

_CHUNK_ROWS = 10_000
_FEW = 32
_CHUNK_CHARACTERS = 1024 * 1024

_WIDTH: dict[schema.ColumnType, int] = {
    t: (16 if t == "ip" else DTYPES[t].itemsize) for t in DTYPES
}
_IDS = {c.name: c.wire for c in schema.RECORD_COLUMNS} | schema.ENDPOINT_WIRE
_BY_ID: dict[int, tuple[str, schema.ColumnType]] = {
    _IDS[name]: (name, type) for name, type in RECORD_TYPES.items()
}

ROW_BYTES = sum(_WIDTH[type] for _, type in _BY_ID.values())
"""Bytes of a record in which no column is zero."""


class WireError(ValueError):
    """What came over the wire is not a valid message; the text says what is wrong with it."""


def encode(batch: FlowBatch, group: int, *, close: bool = False) -> bytes:
    """A serialized MicroBatch. Columns that are zero throughout are left out."""
    parts: list[bytes | memoryview] = [
        pb.MicroBatch(group=group, rows=len(batch)).SerializeToString()
    ]
    for wire, (name, _) in _BY_ID.items():
        column = batch.columns[name]
        if is_nothing(column):
            continue
        # much faster than any(); and a column that is not zero mostly is not from the start
        if np.count_nonzero(column[:_FEW]) or np.count_nonzero(column):
            # protobuf's own messages would copy each column four times more
            size = column.nbytes
            head = b"\x08" + varint(wire) + b"\x12" + varint(size)
            parts += b"\x1a" + varint(len(head) + size) + head, np.ascontiguousarray(column).data
    if close:
        parts.append(b"\x20\x01")
    return b"".join(parts)


def batch_message(data: bytes, *, resent: bool) -> bytes:
    """A serialized AgentMessage with a serialized MicroBatch."""
    return b"".join((b"\x1a", varint(len(data)), data, b"\x20\x01" if resent else b""))


@functools.lru_cache(1024)
def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, as protobuf and ClickHouse have it."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


class Mark(NamedTuple):
    """How long a table was at some moment: all that a batch made then can refer to."""

    strings: int
    endpoints: int

    @classmethod
    def of(cls, endpoints: Endpoints) -> Mark:
        """The length of ``endpoints`` and its strings now."""
        return cls(len(endpoints.strings), len(endpoints))


class Encoder:
    """The sending half of a stream's dictionary: what of a table the receiver does not have yet.

    The table may grow in another thread meanwhile; only what lies before a mark is read.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self._sent = Mark(0, 0)

    def pending(self, upto: Mark | None = None) -> Iterator[pb.Dictionary]:
        """The rows before ``upto`` (default: all) not given out yet, in messages of about 1 MB."""
        upto = upto or Mark.of(self.endpoints)
        values, rows = self.endpoints.strings.values, self.endpoints.rows
        while self._sent.strings < upto.strings:
            base = self._sent.strings
            chunk, characters = [], 0
            for value in values[base : min(base + _CHUNK_ROWS, upto.strings)]:
                chunk.append(_utf8(value))
                characters += len(value)
                if characters >= _CHUNK_CHARACTERS:
                    break
            self._sent = self._sent._replace(strings=base + len(chunk))
            yield pb.Dictionary(strings_base=base, strings=chunk)
        while self._sent.endpoints < upto.endpoints:
            base = self._sent.endpoints
            end = min(base + _CHUNK_ROWS, upto.endpoints)
            self._sent = self._sent._replace(endpoints=end)
            table = np.array(rows[base:end], "<u4")
            yield pb.Dictionary(endpoints_base=base, endpoints=table.tobytes())


def _utf8(value: str) -> str:
    # A name that came from bytes may hold lone surrogates, which protobuf refuses.
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


class Decoder:
    """Turns one stream's messages into batches of the receiver's own endpoint table.

    Ids are per sender and epoch; two arrays map them to the receiver's with one ``take``. What the
    sender said is kept, so that the receiver can start a new table (:meth:`rebind`) without asking.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._said: list[str] = []
        self._characters = 0
        self._tables: list[Array] = []
        self._endpoints = 0
        self.rebind(endpoints)

    @property
    def size(self) -> int:
        """Strings and endpoints the sender has told of, together."""
        return len(self._said) + self._endpoints

    def rebind(self, endpoints: Endpoints) -> None:
        """Decode into ``endpoints`` from now on."""
        self.endpoints = endpoints
        self.strings = np.zeros(1, DTYPES["string"])
        self.rows = np.zeros(1, DTYPES["u32"])
        if self._said:
            self.strings = self._intern(self._said)
        if self._tables:
            self._tables = [np.concatenate(self._tables)]
            self.rows = self._intern_rows(self._tables[0])

    def dictionary(self, message: pb.Dictionary) -> None:
        """Learn new strings and endpoints.

        Raises WireError where they do not continue what is known, refer to unknown strings, or are
        too many.
        """
        if message.strings:
            self._learn_strings(message.strings_base, list(message.strings))
        if message.endpoints:
            width = len(Endpoint._fields)
            if len(message.endpoints) % (width * DTYPES["u32"].itemsize):
                raise WireError(f"endpoint table is not a whole number of {width}-column rows")
            raw = np.frombuffer(message.endpoints, DTYPES["u32"])
            self._learn_rows(message.endpoints_base, raw.reshape(-1, width))

    def _learn_strings(self, base: int, new: list[str]) -> None:
        if base not in (0, len(self._said)):
            raise WireError(f"dictionary starts at string {base}, expected {len(self._said)}")
        if base == 0 and new[0]:
            raise WireError("string 0 must be empty")
        characters = sum(map(len, new)) + (self._characters if base else 0)
        if base + len(new) > MAX_DICTIONARY_ROWS or characters > MAX_DICTIONARY_CHARACTERS:
            raise WireError(
                f"a dictionary of {base + len(new)} strings and {characters} characters is over"
                f" the limit of {MAX_DICTIONARY_ROWS} and {MAX_DICTIONARY_CHARACTERS}"
            )
        ids = self._intern(new)
        self._characters = characters
        self._said = self._said if base else []
        self._said += new
        self.strings = np.concatenate((self.strings, ids)) if base else ids

    def _learn_rows(self, base: int, table: Array) -> None:
        if base not in (0, self._endpoints):
            raise WireError(f"dictionary starts at endpoint {base}, expected {self._endpoints}")
        if base + len(table) > MAX_DICTIONARY_ROWS:
            raise WireError(
                f"{base + len(table)} endpoints are over the limit of {MAX_DICTIONARY_ROWS}"
            )
        if int(table[:, 0].max()) > 255:
            raise WireError(f"endpoint kind {int(table[:, 0].max())} is not one byte")
        ids = self._intern_rows(table)
        self._tables = [*self._tables, table] if base else [table]
        self._endpoints = base + len(table)
        self.rows = np.concatenate((self.rows, ids)) if base else ids

    def _intern(self, values: list[str]) -> Array:
        return np.fromiter(map(self.endpoints.strings.id, values), DTYPES["string"], len(values))

    def _intern_rows(self, table: Array) -> Array:
        mapped = table.copy()
        mapped[:, TEXTS] = _take(
            self.strings, table[:, TEXTS], "string id in", "the endpoint table"
        )
        row_id = self.endpoints.row_id
        return np.fromiter((row_id(tuple(r)) for r in mapped.tolist()), DTYPES["u32"], len(mapped))

    def batch(self, message: pb.MicroBatch) -> FlowBatch:
        """The records of a MicroBatch. Raises WireError."""
        rows = message.rows
        if rows > MAX_ROWS:
            raise WireError(f"a batch of {rows} rows is over the limit of {MAX_ROWS}")
        # one array of zeros for all columns of a type that are left out
        zeros = {type: nothing(type, rows) for type in DTYPES}
        columns: dict[str, Array] = {name: zeros[type] for name, type in RECORD_TYPES.items()}
        for column in message.columns:
            known = _BY_ID.get(column.id)
            if known is None:
                continue  # a newer agent: columns we do not know are left out
            name, type = known
            data = column.data
            if len(data) != rows * _WIDTH[type]:
                raise WireError(f"column {name}: {len(data)} bytes for {rows} rows")
            values = np.frombuffer(data, DTYPES[type])
            if type == "ip":
                values = values.reshape(-1, 16)
            elif type == "string":
                values = _take(self.strings, values, "string id in", name)
            elif name in schema.ENDPOINT_WIRE:
                values = _take(self.rows, values, "row in", name)
            columns[name] = values
        return FlowBatch(columns, self.endpoints)


def parse(data: bytes) -> pb.MicroBatch:
    """The MicroBatch in ``data``. Raises WireError."""
    try:
        return pb.MicroBatch.FromString(data)
    except DecodeError as error:
        raise WireError(f"not a MicroBatch: {error}") from None


def _take(table: Array, ids: Array, what: str, where: str) -> Array:
    try:
        taken: Array = table.take(ids)  # ids have no sign: what is not there is beyond the end
    except IndexError:
        raise WireError(f"unknown {what} {where}: {int(ids.max())} of {len(table)}") from None
    return taken
