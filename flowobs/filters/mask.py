"""A filter over a FlowBatch: a boolean mask, without looking at a single record in Python."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from flowobs import schema
from flowobs.batch import Array, FlowBatch, Strings
from flowobs.filters.tree import And, Filter, Match, Not, Op, Or

_Predicate = Callable[[FlowBatch], Array]


class Mask:
    """A compiled filter: ``mask(batch)`` is a boolean array of shape (rows,).

    Keep it for as long as the filter lives: a pattern is tried once on each distinct string of a
    string table, and that memory grows with the table, not with the records. Not thread-safe.
    """

    __slots__ = ("_run",)

    def __init__(self, filter: Filter) -> None:
        self._run = _compile(filter)

    def __call__(self, batch: FlowBatch) -> Array:
        return self._run(batch)


def _compile(filter: Filter) -> _Predicate:
    match filter:
        case Match():
            return _compile_match(filter)
        case Not(part):
            inner = _compile(part)
            return lambda batch: ~inner(batch)
        case And(parts):
            return _fold([_compile(p) for p in parts], np.logical_and, empty=True)
        case Or(parts):
            return _fold([_compile(p) for p in parts], np.logical_or, empty=False)


def _fold(parts: list[_Predicate], join: Callable[..., Array], *, empty: bool) -> _Predicate:
    def run(batch: FlowBatch) -> Array:
        if not parts:
            return np.full(len(batch), empty)
        mask = parts[0](batch)
        for part in parts[1:]:
            mask = join(mask, part(batch))
        return mask

    return run


def _compile_match(match: Match) -> _Predicate:
    name, value = match.field, match.value
    if match.op is Op.glob:
        assert isinstance(value, str)
        hits = _Hits(value)
        return lambda batch: hits.of(batch.endpoints.strings)[batch[name]]
    if isinstance(value, str):
        return lambda batch: _equals_string(batch, name, value)
    if schema.BY_NAME[name].type == "ip":
        assert isinstance(value, bytes)
        address = np.frombuffer(value, np.uint8)
        return lambda batch: (batch[name] == address).all(axis=1)
    compare = {Op.eq: np.equal, Op.ge: np.greater_equal, Op.lt: np.less}[match.op]
    return lambda batch: compare(batch[name], value)


def _equals_string(batch: FlowBatch, name: str, value: str) -> Array:
    found = batch.endpoints.strings.find(value)
    if found is None:
        return np.zeros(len(batch), bool)
    mask: Array = batch[name] == found
    return mask


class _Hits:
    """Which ids of a string table a pattern matches, extended as the table grows."""

    __slots__ = ("_hits", "_matches", "_table")

    def __init__(self, pattern: str) -> None:
        self._matches = glob_regex(pattern).fullmatch
        self._table: Strings | None = None
        self._hits: Array = np.zeros(0, bool)

    def of(self, table: Strings) -> Array:
        """Boolean array of shape (strings,)."""
        if table is not self._table:  # a new generation of the relay's dictionary
            self._table, self._hits = table, np.zeros(0, bool)
        have, values = len(self._hits), table.values
        if have < len(values):
            new = [self._matches(v) is not None for v in values[have:]]
            self._hits = np.concatenate((self._hits, np.array(new, bool)))
        return self._hits


def glob_regex(pattern: str) -> re.Pattern[str]:
    """The regular expression of a glob in which only ``*`` and ``?`` are special.

    What stands between two stars is matched at its first place and never tried again (atomic
    groups): no pattern takes more than linear time per star.
    """
    first, *rest = (
        "".join("." if c == "?" else re.escape(c) for c in part) for part in pattern.split("*")
    )
    if not rest:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1] if part)
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)
