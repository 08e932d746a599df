"""The filter tree. Nodes are hashable: equal filters of many subscribers are evaluated once."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from flowobs import schema


class FilterError(ValueError):
    """A filter that makes no sense. The text is one sentence with the next step for the user."""


class Op(enum.Enum):
    """How a field is compared. What each type of column allows is in ``ALLOWED``."""

    eq = "="
    ge = ">="
    gt = ">"
    le = "<="
    lt = "<"
    between = ".."
    """Value: (least, most), both included."""
    any_of = "in"
    """Value: a tuple; one of them is equal."""
    bits = "&"
    """All bits of the value are set."""
    glob = "*"
    contains = "~"
    """Somewhere in the text, whatever the case of ASCII letters."""
    inside = "/"
    """Value: a Network."""
    item = ","
    """Of a list: one of its values is this, with wildcards as in a glob."""


class Network(NamedTuple):
    """Addresses that begin with the first ``bits`` bits of ``address``; the rest of it is 0."""

    address: bytes
    bits: int

    def bounds(self) -> tuple[bytes, bytes]:
        """Its first and its last address."""
        rest = (1 << (128 - self.bits)) - 1
        first = int.from_bytes(self.address)
        return self.address, (first | rest).to_bytes(16)


def network(text: str) -> Network:
    """``10.0.0.0/8`` or ``fd00::/8``; bits behind the prefix are ignored. Raises ValueError."""
    found = ipaddress.ip_network(text, strict=False)
    if isinstance(found, ipaddress.IPv4Network):
        return Network(
            b"\0" * 10 + b"\xff\xff" + found.network_address.packed, found.prefixlen + 96
        )
    return Network(found.network_address.packed, found.prefixlen)


def packed(text: str) -> bytes:
    """The 16 bytes of an address, IPv4 mapped. Raises ValueError."""
    found = ipaddress.ip_address(text)
    v4 = isinstance(found, ipaddress.IPv4Address)
    return b"\0" * 10 + b"\xff\xff" + found.packed if v4 else found.packed


Value = int | str | bytes | Network | tuple[int, ...] | tuple[str, ...] | tuple[bytes, ...]

_NUMBER = frozenset({Op.eq, Op.ge, Op.gt, Op.le, Op.lt, Op.between, Op.any_of, Op.bits})
ALLOWED: dict[schema.ColumnType, frozenset[Op]] = {
    "time": _NUMBER - {Op.bits},
    "u8": _NUMBER,
    "u16": _NUMBER,
    "u32": _NUMBER,
    "u64": _NUMBER,
    "ip": frozenset({Op.eq, Op.any_of, Op.inside}),
    "string": frozenset({Op.eq, Op.any_of, Op.glob, Op.contains}),
}
LIST = frozenset({Op.item, Op.contains})
"""What a column of lists allows instead."""


@dataclass(frozen=True, slots=True)
class Match:
    """One field compared with one value.

    ``field`` is a name of ``schema.COLUMNS``. ``value`` is an int for numbers and times (UTC ns),
    16 bytes for addresses, and text for strings, unless the ``Op`` says otherwise; with
    ``Op.glob``, ``*`` stands for any run of characters and ``?`` for one.

    Raises FilterError for a field that does not exist or an operator its type does not have.
    """

    field: str
    op: Op
    value: Value

    def __post_init__(self) -> None:
        column = schema.BY_NAME.get(self.field)
        if column is None:
            raise FilterError(f"there is no field `{self.field}`; see docs/fields.md")
        allowed = LIST if column.unit == "list" else ALLOWED[column.type]
        if self.op not in allowed:
            raise FilterError(f"`{self.field}` cannot be compared with `{self.op.value}`")
        if self.op is Op.bits and column.unit != "flags":
            raise FilterError(f"`{self.field}` has no flags")


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; of no parts: true."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part holds; of no parts: false."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Filter


Filter = And | Or | Not | Match

EVERYTHING = And(())
"""The filter that every record passes."""

NOTHING = Or(())
"""The filter that no record passes."""


def all_of(parts: list[Filter]) -> Filter:
    """Parts that must all hold; one alone stays as it is."""
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def any_of(parts: list[Filter]) -> Filter:
    """Parts of which one must hold; one alone stays as it is."""
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def text_match(field: str, value: str) -> Match:
    """Compare a string field: as a pattern where ``value`` has wildcards, literally otherwise."""
    return Match(field, Op.glob if "*" in value or "?" in value else Op.eq, value)


def matches(filter: Filter) -> Iterator[Match]:
    """Every comparison in the tree."""
    match filter:
        case Match():
            yield filter
        case Not(part):
            yield from matches(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from matches(part)
