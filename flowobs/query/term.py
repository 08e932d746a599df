"""One comparison of a question, and what a single column makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flowobs import schema
from flowobs.filters.tree import Filter, Match, Op, any_of
from flowobs.query.error import QueryError
from flowobs.query.values import address, address_match, enum_names, flags, number
from flowobs.query.words import Word

OPERATORS: Final = ("!=", ">=", "<=", ":", "=", ">", "<", "~")
"""Longer ones first: the first that fits is the one."""

_COMPARED: Final = {">=": Op.ge, ">": Op.gt, "<=": Op.le, "<": Op.lt}


@dataclass(frozen=True, slots=True)
class Term:
    """``name op value``; ``values`` are the parts between commas, at least one, none missing."""

    name: str
    column: int
    op: str
    values: tuple[Word, ...]

    @property
    def equal(self) -> bool:
        """It asks for values, not for a comparison or a part of a text."""
        return self.op in (":", "=")

    def single(self) -> Word:
        """The value of a comparison."""
        if len(self.values) > 1:
            raise QueryError(
                f"`{self.name}{self.op}` takes one value; lists go with `{self.name}:a,b`",
                self.values[1].column,
            )
        return self.values[0]

    def no_operator(self) -> QueryError:
        """The field has no such comparison."""
        return QueryError(
            f"`{self.name}` cannot be compared with `{self.op}`; write `{self.name}:`", self.column
        )


def column_filter(name: str, term: Term) -> Filter:
    """``term`` about one column of the schema. Raises QueryError."""
    column = schema.BY_NAME[name]
    if term.op == "~":
        if column.type != "string":
            raise term.no_operator()
        return any_of([Match(name, Op.contains, word.text) for word in term.values])
    if not term.equal:
        if column.type in ("ip", "string"):
            raise term.no_operator()
        return Match(name, _COMPARED[term.op], number(column, term.name, term.single()))
    return _one_of([_item(column, term.name, word) for word in term.values])


def _one_of(found: list[Match]) -> Filter:
    """Any of ``found``; plain values become one list."""
    values: list[int | str | bytes] = []
    others: list[Filter] = []
    for match in found:
        if match.op is Op.any_of and isinstance(match.value, tuple):
            values.extend(match.value)
        elif match.op is Op.eq and isinstance(match.value, int | str | bytes):
            values.append(match.value)
        else:
            others.append(match)
    if len(values) == 1:
        others.insert(0, Match(found[0].field, Op.eq, values[0]))
    elif values:
        others.insert(0, Match(found[0].field, Op.any_of, tuple(values)))  # type: ignore[arg-type]
    return any_of(others)


def _item(column: schema.Column, name: str, word: Word) -> Match:
    if column.unit == "list":
        stars = word.pattern()
        if not stars.wild and any(c in "*?" for c in stars.text):
            raise QueryError(f"`{name}` has no `*` or `?` in it; leave out the quotes", word.column)
        return Match(column.name, Op.item, stars.text)
    if column.type == "string":
        return word.pattern().match(column.name)
    if column.type == "ip":
        found = address(word.text)
        if found is None:
            raise QueryError(
                f"`{name}` cannot be `{word.text}`; write `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`",
                word.column,
            )
        return address_match(column.name, found)
    bits = flags(word) if column.unit == "flags" else None
    if bits is not None:
        return Match(column.name, Op.bits, bits)
    if column.enum is not None and word.pattern().wild:
        members = enum_names(column.enum, word)
        if not members:
            names = ", ".join(column.enum.__members__)
            raise QueryError(f"`{word.text}` matches no `{name}`; there are {names}", word.column)
        return Match(column.name, Op.any_of, members)
    return _range(column, name, word) or Match(column.name, Op.eq, number(column, name, word))


def _range(column: schema.Column, name: str, word: Word) -> Match | None:
    """``8000-9000`` or ``8000..9000``; with two dots, one end may be open."""
    parts = word.split("..")
    if len(parts) == 1 and column.type != "time" and column.enum is None:
        parts = word.split("-")
    if len(parts) != 2:
        return None
    least, most = parts
    opened = least.missing or most.missing
    if (least.missing and most.missing) or (opened and ".." not in word.text):
        return None
    if most.missing:
        return Match(column.name, Op.ge, number(column, name, least))
    if least.missing:
        return Match(column.name, Op.le, number(column, name, most))
    values = number(column, name, least), number(column, name, most)
    if values[0] > values[1]:
        raise QueryError(
            f"`{word.text}` is empty; write the smaller end first: `{most.text}..{least.text}`",
            word.column,
        )
    return Match(column.name, Op.between, values)
