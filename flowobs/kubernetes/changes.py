"""What happened to a cluster's objects, as bytes: from the relay's watch to its agents' tables.

A change is what a reflector tells its sink. Objects travel as the parts of them that we decode from
the API, in MessagePack: a field that names need is added in one place.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from flowobs.kubernetes import objects
from flowobs.kubernetes.objects import Object

MAX_PART = 512 << 10
"""Bytes of changes, before they are compressed, after which a message ends."""
_MOST = 16 << 20
"""No message of ours is longer than this when it is unpacked."""


class ChangesError(ValueError):
    """What came is no list of changes; one sentence."""


class Put(msgspec.Struct, tag=1, array_like=True, gc=False, frozen=True):
    """``object`` is new or has changed; ``since_ns`` as in Table.put."""

    kind: str
    object: msgspec.Raw
    since_ns: int | None = None


class Remove(msgspec.Struct, tag=2, array_like=True, gc=False, frozen=True):
    """The object is gone; ``at_ns`` as in Table.remove."""

    uid: str
    at_ns: int


class Settle(msgspec.Struct, tag=3, array_like=True, gc=False, frozen=True):
    """All that there is has been put."""


Change = Put | Remove | Settle

KINDS: dict[str, type[Object]] = {
    type.__name__: type
    for type in (
        objects.Pod,
        objects.Service,
        objects.EndpointSlice,
        objects.Node,
        objects.Namespace,
    )
}
"""What agents get; the rest is for the relay."""

_encoder = msgspec.msgpack.Encoder()
_changes = msgspec.msgpack.Decoder(list[msgspec.Raw])
_change = msgspec.msgpack.Decoder(Change)
_objects = {name: msgspec.msgpack.Decoder(type) for name, type in KINDS.items()}


def put(thing: Object) -> Put:
    """Of an object of KINDS."""
    return Put(type(thing).__name__, msgspec.Raw(_encoder.encode(thing)))


def parts(changes: Iterable[Change]) -> Iterator[Sequence[bytes]]:
    """Changes, encoded, in runs that fit a message."""
    run: list[bytes] = []
    size = 0
    for change in changes:
        data = _encoder.encode(change)
        if run and size + len(data) > MAX_PART:
            yield run
            run, size = [], 0
        run.append(data)
        size += len(data)
    if run:
        yield run


def pack(run: Sequence[bytes]) -> bytes:
    """A run as the bytes of a message."""
    return zlib.compress(_encoder.encode([msgspec.Raw(data) for data in run]), 1)


def unpack(data: bytes) -> Iterator[Change]:
    """The changes of a message; those that this version does not know are left out.

    Raises ChangesError.
    """
    try:
        inflate = zlib.decompressobj()
        text = inflate.decompress(data, _MOST)
        if not inflate.eof:
            raise ChangesError(f"changes are cut off, or longer than {_MOST >> 20} MiB")
        for raw in _changes.decode(text):
            try:
                yield _change.decode(raw)
            except msgspec.ValidationError:
                continue  # a newer relay's
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ChangesError(f"no list of changes: {error}") from None


def thing(change: Put) -> Object | None:
    """The object; None where this version does not know its kind. Raises ChangesError."""
    decoder = _objects.get(change.kind)
    if decoder is None:
        return None
    try:
        return decoder.decode(change.object)
    except msgspec.MsgspecError as error:
        raise ChangesError(f"no {change.kind}: {error}") from None
