"""Where somebody is in a question while typing it, and which fields could stand there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from flowobs import schema
from flowobs.filters.tree import EVERYTHING, Filter
from flowobs.query.error import QueryError
from flowobs.query.fields import ALIASES, FIELDS, TIME_UNITS, canonical
from flowobs.query.parser import parse

_BEGUN: Final = re.compile(r"([A-Za-z][A-Za-z0-9_.]*)(?:!=|>=|<=|[:=<>~])")
_JOINED: Final = re.compile(r"(?:\s|^)(and|or|not)\s*$|!$", re.IGNORECASE)
_FIRST: Final = ("pod", "ns", "port", "kind", "verdict", "proto", "from", "to", "ip", "workload")
_SHOWN: Final = ("ns", "reason", "close", "flags")
"""Aliases that are offered instead of their fields."""
_HELD: Final = {"pod": "name", "label": "labels", "service": "services"}
"""Attributes with another name than the field that looks at them."""
_ABOUT: Final = {
    "pod": "name of either end: web-0, shop/web-*",
    "ns": "namespace of either end",
    "port": "port of either end",
    "ip": "address of either end: 10.1.2.3, 10.0.0.0/8",
    "workload": "workload of either end: api, shop/api",
    "service": "service of either end: api, shop/api",
    "label": "a label of either end: app=web, app=we*, app",
    "from": "the end that opened the flow: a name or an address",
    "to": "the end it was opened to: a name or an address",
    "end": "either end: a whole name or an address",
}


@dataclass(frozen=True, slots=True)
class Place:
    """What is being typed: ``prefix`` of a value of ``field``, or of a field where that is empty.

    It begins at column ``start``; ``others`` is what the rest of the question asks for.
    """

    field: str
    prefix: str
    start: int
    others: Filter


def place(text: str, at: int) -> Place:
    """The place of a cursor that stands before column ``at``."""
    at = max(1, min(at, len(text) + 1))
    begin, quote = 0, ""
    for i, c in enumerate(text[: at - 1]):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c.isspace() or c in "()" or (c == "!" and i == begin):
            begin = i + 1
    word = text[begin : at - 1]
    others = _others(text[:begin], text[at - 1 :])
    begun = _BEGUN.match(word)
    if begun is None:
        return Place("", word, begin + 1, others)
    value = max(begun.end(), word.rfind(",") + 1)
    return Place(begun[1], word[value:].strip("\"'"), begin + value + 1, others)


def _others(before: str, behind: str) -> Filter:
    """What must match besides the word at the cursor; everything where that is not clear."""
    while joined := _JOINED.search(before):
        if (joined[1] or "").lower() == "or":
            return EVERYTHING
        before = before[: joined.start()]
    if behind.strip():  # in the middle: the rest may be joined in any way
        return EVERYTHING
    try:
        return parse(before)
    except QueryError:
        return EVERYTHING


def field_names(prefix: str) -> list[tuple[str, str]]:
    """Fields that ``prefix`` may become, the likely ones first, and what each is."""
    prefix = prefix.lower()
    short = {ALIASES[alias]: alias for alias in _SHOWN}
    names = [short.get(n, n) for n in FIELDS if not n.startswith(("src_", "dst_"))]
    places = {name: i for i, name in enumerate(_FIRST)}
    ordered = sorted(names, key=lambda n: (places.get(n, len(places)), "." in n or "_" in n))
    begins = [n for n in ordered if n.startswith(prefix)]
    others = [n for n in ordered if prefix in n and n not in begins] if prefix else []
    return [(name, _about(name)) for name in (*begins, *others)]


def _about(name: str) -> str:
    if name in _ABOUT:
        return _ABOUT[name]
    columns = columns_of(name)
    about = schema.BY_NAME[columns[0]].doc
    return about.partition(": ")[2] if len(columns) > 1 else about


def columns_of(field: str) -> tuple[str, ...]:
    """Columns of the schema that hold what ``field`` looks at; none where it does not exist."""
    name = canonical(field)
    if name not in FIELDS:
        return ()
    side, dot, attribute = name.rpartition(".")
    sides = (side,) if dot else ("src", "dst")
    if name in ("from", "to", "end"):
        sides = {"from": ("src",), "to": ("dst",), "end": sides}[name]
        attribute = "name"
    elif name in schema.BY_NAME:
        return (name,)
    attribute = _HELD.get(attribute, attribute)
    found = tuple(f"{s}_{attribute}" for s in sides)
    known = tuple(c for c in found if c in schema.BY_NAME)
    full = next((f"{name}{unit}" for unit in TIME_UNITS if f"{name}{unit}" in FIELDS), None)
    return columns_of(full) if not known and full else known
