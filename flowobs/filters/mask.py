"""A filter over a FlowBatch: a boolean mask, without looking at a single record in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowobs import schema
from flowobs.batch import DTYPES, Array, FlowBatch, Strings
from flowobs.filters.glob import glob_regex, item_matcher
from flowobs.filters.tree import And, Filter, Match, Network, Not, Op, Or

_Predicate = Callable[[FlowBatch], Array]


class Mask:
    """A compiled filter: ``mask(batch)`` is a boolean array of shape (rows,).

    Keep it for as long as the filter lives: a pattern is tried once on each distinct string of a
    string table, and that memory grows with the table, not with the records. Not thread-safe.
    """

    __slots__ = ("_run",)

    def __init__(self, filter: Filter) -> None:
        self._run = _compile(filter, {})

    def __call__(self, batch: FlowBatch) -> Array:
        return self._run(batch)


def _compile(filter: Filter, patterns: _Patterns) -> _Predicate:
    match filter:
        case Match():
            return _compile_match(filter, patterns)
        case Not(part):
            inner = _compile(part, patterns)
            return lambda batch: ~inner(batch)
        case And(parts):
            return _fold([_compile(p, patterns) for p in parts], np.logical_and, empty=True)
        case Or(parts):
            return _fold([_compile(p, patterns) for p in parts], np.logical_or, empty=False)


def _fold(parts: list[_Predicate], join: Callable[..., Array], *, empty: bool) -> _Predicate:
    def run(batch: FlowBatch) -> Array:
        if not parts:
            return np.full(len(batch), empty)
        mask = parts[0](batch)
        for part in parts[1:]:
            mask = join(mask, part(batch))
        return mask

    return run


def _compile_match(match: Match, patterns: _Patterns) -> _Predicate:
    name, value = match.field, match.value
    column = schema.BY_NAME[name]
    if match.op in _PATTERNS:
        assert isinstance(value, str)
        # a bare word looks for one text in ten columns: all of them share a string table
        hits = patterns.get((match.op, value))
        if hits is None:
            hits = patterns[match.op, value] = _Hits(_PATTERNS[match.op](value))
        return lambda batch: hits.of(batch.endpoints.strings)[batch[name]]
    values = value if match.op is Op.any_of and isinstance(value, tuple) else (value,)
    if column.type == "string":
        return lambda batch: _equals_string(batch, name, values)
    if isinstance(value, Network):
        return _inside(name, value)
    if column.type == "ip":
        addresses = [np.frombuffer(v, np.uint8) for v in values if isinstance(v, bytes)]
        return lambda batch: _any([(batch[name] == a).all(axis=1) for a in addresses], batch)
    return _compile_number(match, column)


_COMPARE: dict[Op, Callable[[Array, Any], Array]] = {
    Op.eq: np.equal,
    Op.ge: np.greater_equal,
    Op.gt: np.greater,
    Op.le: np.less_equal,
    Op.lt: np.less,
}


def _compile_number(match: Match, column: schema.Column) -> _Predicate:
    name, value = match.field, match.value
    if match.op is Op.any_of or match.op is Op.between:
        assert isinstance(value, tuple)
        if match.op is Op.between:
            least, most = value
            return lambda batch: (batch[name] >= least) & (batch[name] <= most)
        # numpy would compare u64 and negative or larger numbers as floats
        info = np.iinfo(DTYPES[column.type])
        known = [v for v in value if isinstance(v, int) and info.min <= v <= info.max]
        wanted = np.array(known, DTYPES[column.type])
        return lambda batch: np.isin(batch[name], wanted)
    if match.op is Op.bits:
        assert isinstance(value, int)
        bits = np.uint64(value)
        return lambda batch: (batch[name].astype(np.uint64) & bits) == bits
    compare = _COMPARE[match.op]
    return lambda batch: compare(batch[name], value)


def _any(masks: list[Array], batch: FlowBatch) -> Array:
    return np.logical_or.reduce(masks) if masks else np.zeros(len(batch), bool)


def _equals_string(batch: FlowBatch, name: str, values: tuple[object, ...]) -> Array:
    ids = [batch.endpoints.strings.find(v) for v in values if isinstance(v, str)]
    return _any([batch[name] == found for found in ids if found is not None], batch)


def _inside(name: str, network: Network) -> _Predicate:
    whole, rest = divmod(network.bits, 8)
    address = np.frombuffer(network.address, np.uint8)
    bits = np.uint8(0xFF00 >> rest & 0xFF)

    def run(batch: FlowBatch) -> Array:
        column = batch[name]
        mask: Array = (column[:, :whole] == address[:whole]).all(axis=1)
        if rest:
            mask &= (column[:, whole] & bits) == address[whole]
        return mask

    return run


def _container(text: str) -> Callable[[str], bool]:
    wanted = _folded(text)
    return lambda value: wanted in _folded(value)


def _folded(text: str) -> bytes:
    return text.encode().lower()  # ASCII letters only, as the store's lower()


_PATTERNS: dict[Op, Callable[[str], Callable[[str], object]]] = {
    Op.glob: lambda value: glob_regex(value).fullmatch,
    Op.contains: _container,
    Op.item: item_matcher,
}


class _Hits:
    """Which ids of a string table a pattern matches, extended as the table grows."""

    __slots__ = ("_hits", "_matches", "_table")

    def __init__(self, matches: Callable[[str], object]) -> None:
        self._matches = matches
        self._table: Strings | None = None
        self._hits: Array = np.zeros(0, bool)

    def of(self, table: Strings) -> Array:
        """Boolean array of shape (strings,)."""
        if table is not self._table:  # a new generation of the relay's dictionary
            self._table, self._hits = table, np.zeros(0, bool)
        have, values = len(self._hits), table.values
        if have < len(values):
            new = [bool(self._matches(v)) for v in values[have:]]
            self._hits = np.concatenate((self._hits, np.array(new, bool)))
        return self._hits


_Patterns = dict[tuple[Op, str], _Hits]
"""The patterns of one filter, each once."""
