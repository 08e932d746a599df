"""The filter tree. Nodes are hashable: equal filters of many subscribers are evaluated once."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from flowobs import schema


class FilterError(ValueError):
    """A filter that makes no sense. The text is one sentence with the next step for the user."""


class Op(enum.Enum):
    """How a field is compared. What each type of column allows is in ``ALLOWED``."""

    eq = "="
    glob = "~"
    ge = ">="
    lt = "<"


_NUMBER = frozenset({Op.eq, Op.ge, Op.lt})
ALLOWED: dict[schema.ColumnType, frozenset[Op]] = {
    "time": _NUMBER,
    "u8": _NUMBER,
    "u16": _NUMBER,
    "u32": _NUMBER,
    "u64": _NUMBER,
    "ip": frozenset({Op.eq}),
    "string": frozenset({Op.eq, Op.glob}),
}


@dataclass(frozen=True, slots=True)
class Match:
    """One field compared with one value.

    ``field`` is a name of ``schema.COLUMNS``. ``value`` is an int for numbers and times (UTC ns),
    16 bytes for addresses, and text for strings; with ``Op.glob``, ``*`` stands for any run of
    characters and ``?`` for one.

    Raises FilterError for a field that does not exist or an operator its type does not have.
    """

    field: str
    op: Op
    value: int | str | bytes

    def __post_init__(self) -> None:
        column = schema.BY_NAME.get(self.field)
        if column is None:
            raise FilterError(f"there is no field `{self.field}`; see docs/fields.md")
        if self.op not in ALLOWED[column.type]:
            raise FilterError(f"`{self.field}` cannot be compared with `{self.op.value}`")


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


def text_match(field: str, value: str) -> Match:
    """Compare a string field: as a pattern where ``value`` has wildcards, literally otherwise."""
    return Match(field, Op.glob if "*" in value or "?" in value else Op.eq, value)
