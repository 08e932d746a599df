"""The engine's Native format as numpy arrays, for answers that numpy goes on with."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]

_TYPES: Final = {
    "UInt8": "u1", "UInt16": "<u2", "UInt32": "<u4", "UInt64": "<u8", "Int64": "<i8",
    "DateTime": "<u4", "DateTime64": "<i8",
}  # fmt: skip
_SIMPLE: Final = re.compile(r"SimpleAggregateFunction\(\w+, (.*)\)")


def columns(data: bytes) -> Columns:
    """The columns of an answer without rows, or of its blocks, one after the other.

    An Array(T) becomes two: ``name``, with all values, and ``name.ends``, where each row's end. A
    Map(String, T) has ``name.keys``, too.
    """
    found: dict[str, list[Array]] = {}
    at = 0
    while at < len(data):
        count, at = _varint(data, at)
        rows, at = _varint(data, at)
        for _ in range(count):
            name, at = _text(data, at)
            type, at = _text(data, at)
            if simple := _SIMPLE.fullmatch(type):
                type = simple[1]
            if type.startswith(("Array(", "Map(String, ")):
                ends = np.frombuffer(data, "<u8", rows, at)
                at += ends.nbytes
                size = int(ends[-1]) if rows else 0
                if type.startswith("Map"):
                    texts: Array = np.empty(size, object)
                    for i in range(size):
                        texts[i], at = _text(data, at)
                    found.setdefault(f"{name}.keys", []).append(texts)
                of = type[:-1].removeprefix("Array(").removeprefix("Map(String, ")
                values = np.frombuffer(data, _dtype(of), size, at)
                base = sum(len(part) for part in found.get(name, ()))
                found.setdefault(f"{name}.ends", []).append(ends + np.uint64(base))
            else:
                values = np.frombuffer(data, _dtype(type), rows, at)
            at += values.nbytes
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _dtype(type: str) -> str:
    return _TYPES[type.partition("(")[0]]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] > 127:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
    return value | data[at] << shift, at + 1


def _text(data: bytes, at: int) -> tuple[str, int]:
    size, at = _varint(data, at)
    return data[at : at + size].decode(), at + size
