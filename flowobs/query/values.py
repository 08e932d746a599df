"""Values as people write them: numbers with units, names of enums, addresses, times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from flowobs import schema
from flowobs.filters.glob import glob_regex
from flowobs.filters.tree import Match, Network, Op, network, packed
from flowobs.query.error import QueryError, nearest
from flowobs.query.words import Word
from flowobs.times import parse_rfc3339

_NS: Final = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9,
    "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9,
}  # fmt: skip
_BYTES: Final = {"": 1, "b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgt", 1)
    for suffix, base in (("", 1000), ("b", 1000), ("ib", 1024))
}
_COUNTS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_MOST: Final[dict[schema.ColumnType, int]] = {
    "time": 2**63 - 1,
    "u8": 2**8 - 1,
    "u16": 2**16 - 1,
    "u32": 2**32 - 1,
    "u64": 2**64 - 1,
}
_NUMBER: Final = re.compile(r"(\d{1,20})(?:\.(\d{1,9}))?([a-zA-Z]*)", re.ASCII)
_NUMBER_MICRO: Final = re.compile(r"(\d{1,20})(?:\.(\d{1,9}))?([µμ]s)")
_YES_NO: Final = {"yes": 1, "true": 1, "no": 0, "false": 0}
_PREFIX: Final = re.compile(r"((?:\d{1,3}\.){1,3})(?:\*(?:\.\*){0,2})?", re.ASCII)


def number(column: schema.Column, name: str, word: Word) -> int:
    """The number that ``word`` means in ``column``. Raises QueryError."""
    text = word.text
    if column.type == "time":
        return _time(name, word)
    if column.enum is not None:
        return _enum(column.enum, column, name, word)
    if column.unit == "yes/no" and text.lower() in _YES_NO:
        return _YES_NO[text.lower()]
    units, each = _units(column)
    found = _NUMBER.fullmatch(text) or _NUMBER_MICRO.fullmatch(text)
    if found is None:
        raise _refused(name, word, _example(column))
    whole, fraction, unit = found.groups()
    behind = word.behind
    if unit == "" and behind and behind.lower() in units:
        raise QueryError(
            f'write `{text}{behind}` for `{text} {behind}`, or `"{behind}"` if it is a name',
            word.column,
        )
    if unit.lower() not in units and not (unit == "" and int(whole) == 0 and not fraction):
        if unit == "":
            raise QueryError(f"`{name}` needs a unit; write `{text}ms`", word.column)
        known = ", ".join(u for u in units if u.isascii() and u)
        hint = f"units are {known}" if known else f"use {_example(column)}"
        raise QueryError(f"`{name}` has no unit `{unit}`; {hint}", word.column)
    exact = Fraction(f"{whole}.{fraction or 0}") * units.get(unit.lower(), 1) / each
    if exact.denominator != 1:
        finest = f"whole {column.unit}" if column.unit else "a whole number"
        raise QueryError(f"`{name}` cannot be `{text}`; use {finest}", word.column)
    most = _MOST[column.type]
    if exact > most:
        raise QueryError(f"`{name}` cannot be `{text}`; it is at most {most}", word.column)
    return int(exact)


def _units(column: schema.Column) -> tuple[Mapping[str, int], int]:
    """Factors of the units that ``column`` may be written in, and the factor of its own."""
    if column.unit in _NS:
        return _NS, _NS[column.unit]
    if column.unit == "bytes":
        return _BYTES, 1
    return (_COUNTS if column.unit in ("packets", "records") else {"": 1}), 1


def _example(column: schema.Column) -> str:
    if column.unit in _NS:
        return "a length of time such as `50ms`"
    if column.unit == "bytes":
        return "a size such as `1500`, `64kB` or `1MiB`"
    if column.unit == "yes/no":
        return "yes or no"
    if column.unit == "flags":
        return f"flags such as `SYN` or `SYN+ACK` ({', '.join(schema.TCP_FLAGS)})"
    return f"a number up to {_MOST[column.type]}"


def _refused(name: str, word: Word, instead: str) -> QueryError:
    return QueryError(f"`{name}` cannot be `{word.text}`; use {instead}", word.column)


def _time(name: str, word: Word) -> int:
    found = parse_rfc3339(word.text)
    if found is None:
        raise _refused(name, word, "a time such as `2026-01-31T12:00:00Z`")
    return found


def _enum(kind: schema.EnumType, column: schema.Column, name: str, word: Word) -> int:
    known = {member.lower(): int(value) for member, value in kind.__members__.items()}
    text = word.text.lower()
    if text in known:
        return known[text]
    if text.isascii() and text.isdecimal() and len(text) < 20:
        if int(text) > _MOST[column.type]:
            raise _refused(name, word, f"a number up to {_MOST[column.type]}")
        return int(text)
    close = nearest(text, known)
    hint = f"did you mean `{close}`?" if close else f"use one of {', '.join(known)}"
    raise QueryError(f"`{name}` cannot be `{word.text}`; {hint}", word.column)


def enum_names(kind: schema.EnumType, word: Word) -> tuple[int, ...]:
    """Numbers of the members that a word with wildcards matches."""
    wanted = glob_regex(word.text.lower())
    return tuple(int(m) for m in kind if wanted.fullmatch(m.name.lower()))


def flags(word: Word) -> int | None:
    """The bits of ``SYN+ACK``, or None where that is not what ``word`` says."""
    names = word.text.upper().split("+")
    if not all(name in schema.TCP_FLAGS for name in names):
        return None
    return sum({1 << schema.TCP_FLAGS.index(name) for name in names})


def address(text: str) -> bytes | Network | None:
    """An address, a CIDR, or the beginning of an IPv4 address (``10.88.*``, ``10.88.``)."""
    if "%" in text or not text.isascii():
        return None
    begins = _PREFIX.fullmatch(text)
    try:
        if begins:
            octets = begins[1].rstrip(".").split(".")
            return network(f"{'.'.join([*octets, '0', '0', '0'][:4])}/{8 * len(octets)}")
        if "/" in text:
            return network(text)
        return packed(text)
    except ValueError:
        return None


def address_match(field: str, value: bytes | Network) -> Match:
    return Match(field, Op.inside if isinstance(value, Network) else Op.eq, value)
