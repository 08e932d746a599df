"""A question as a filter tree. The grammar is in docs/query.md.

question = [ either ]
either   = both { "or" both }
both     = part { [ "and" ] part }
part     = ( "not" | "!" ) part | "(" either ")" | term
term     = field operator value { "," value } | value
"""

from __future__ import annotations

import re
from typing import Final

from flowobs.filters.tree import EVERYTHING, Filter, Not, Op, all_of, any_of, matches
from flowobs.query import fields
from flowobs.query.ends import bare
from flowobs.query.error import QueryError
from flowobs.query.term import OPERATORS, Term
from flowobs.query.values import address
from flowobs.query.words import Mark, Word, split

MOST_DEPTH: Final = 30
MOST_COMPARISONS: Final = 1_000
MOST_PATTERNS: Final = 100
"""Each is tried on every name that the relay knows."""
MOST_WILDCARDS: Final = 200
"""The engine takes milliseconds for each of them."""
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
_NEGATED: Final = re.compile(r"-([A-Za-z][A-Za-z0-9_.]*)[:=<>~!]")
_KEYWORDS: Final = frozenset({"and", "or", "not"})
_FOREIGN: Final = {"&&": "and", "||": "or", "&": "and", "|": "or"}
_MISTAKEN: Final = {
    "==": "{}=", "=!": "{}!=", ":!": "{}!=", "!:": "{}!=",
    "=~": "{}~", ":~": "{}~", "!~": "not {}~",
}  # fmt: skip
"""Operators of other languages: read as a value's beginning, they would just match nothing."""


def parse(text: str) -> Filter:
    """The tree of a question; an empty one is true for every record. Raises QueryError."""
    tree = _Parser(text).question()
    weight = sum(len(m.value) if isinstance(m.value, tuple) else 1 for m in matches(tree))
    if weight > MOST_COMPARISONS:
        raise QueryError(
            f"this makes {weight} comparisons, {MOST_COMPARISONS} is the limit; ask for less", 1
        )
    patterns = {m.value for m in matches(tree) if m.op in (Op.glob, Op.contains)}
    if len(patterns) > MOST_PATTERNS:
        raise QueryError(
            f"this looks for {len(patterns)} words and patterns, {MOST_PATTERNS} is the limit; "
            "ask for less",
            1,
        )
    globs = {m.value for m in matches(tree) if m.op in (Op.glob, Op.item)}
    wildcards = sum(str(glob).count(c) for glob in globs for c in "*?")
    if wildcards > MOST_WILDCARDS:
        raise QueryError(
            f"this has {wildcards} wildcards, {MOST_WILDCARDS} is the limit; ask for less", 1
        )
    return tree


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = split(text)
        self._at = 0
        self._end = len(text) + 1

    def question(self) -> Filter:
        if not self._tokens:
            return EVERYTHING
        tree = self._either(0)
        rest = self._peek()
        if rest is not None:  # only a parenthesis ends an expression early
            raise QueryError("this `)` closes nothing; leave it out", rest.column)
        return tree

    def _peek(self) -> Word | Mark | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _keyword(self) -> str:
        """``and``, ``or`` or ``not`` where it comes next, else nothing."""
        token = self._peek()
        if not isinstance(token, Word) or not token.plain:
            return ""
        if token.text in _FOREIGN:
            raise QueryError(f"write `{_FOREIGN[token.text]}` for `{token.text}`", token.column)
        word = token.text.lower()
        return word if word in _KEYWORDS else ""

    def _either(self, depth: int) -> Filter:
        parts = [self._both(depth)]
        while self._keyword() == "or":
            self._at += 1
            parts.append(self._both(depth))
        return any_of(parts)

    def _both(self, depth: int) -> Filter:
        parts = [self._part(depth)]
        while self._more():
            parts.append(self._part(depth))
        return all_of(parts)

    def _more(self) -> bool:
        """Whether another part follows; steps over ``and``."""
        token, keyword = self._peek(), self._keyword()
        if keyword == "and":
            self._at += 1
            return True
        closing = isinstance(token, Mark) and token.text == ")"
        return token is not None and keyword != "or" and not closing

    def _part(self, depth: int) -> Filter:
        token = self._peek()
        if token is None or self._keyword() in ("and", "or") or _is(token, ")"):
            raise self._missing(token)
        if depth > MOST_DEPTH:
            raise QueryError(f"this is nested more than {MOST_DEPTH} deep", token.column)
        if self._keyword() == "not" or _is(token, "!"):
            self._at += 1
            return Not(self._part(depth + 1))
        self._at += 1
        if isinstance(token, Word):
            return _term(token)
        inner = self._either(depth + 1)
        if not _is(self._peek(), ")"):
            raise QueryError("this `(` is never closed; add a `)`", token.column)
        self._at += 1
        return inner

    def _missing(self, token: Word | Mark | None) -> QueryError:
        column = self._end if token is None else token.column
        if self._at == 0:
            first = token.text if token is not None else ""
            return QueryError(f"something is missing before `{first}`", column)
        before = self._tokens[self._at - 1].text
        return QueryError(f"something is missing after `{before}`", column)


def _is(token: Word | Mark | None, text: str) -> bool:
    return isinstance(token, Mark) and token.text == text


def _term(word: Word) -> Filter:
    found = None if address(word.text) is not None else _FIELD.match(word.text)
    length = found.end() if found and not any(word.quoted[: found.end()]) else 0
    name = word.text[:length]
    for wrong, right in _MISTAKEN.items():
        if name and word.find(wrong, length) == length:
            raise QueryError(f"write `{right.format(name)}` for `{name}{wrong}`", word.column)
    op = next((op for op in OPERATORS if word.find(op, length) == length), None)
    if op is None or (not name and _is_port(word)):
        return _bare(word)
    if not name:
        raise QueryError(
            f"a field is missing before `{op}`; write it without spaces, as in `bytes>1MB`",
            word.column,
        )
    values = tuple(word.cut(length + len(op)).split(","))
    for part in values:
        if part.missing:
            example = "write it without spaces, as in `port:80,443`"
            raise QueryError(f"a value is missing in `{word.text}`; {example}", part.column)
    if op == "!=":
        return Not(fields.make(Term(name, word.column, "=", values)))
    return fields.make(Term(name, word.column, op, values))


def _bare(word: Word) -> Filter:
    negated = _NEGATED.match(word.text) if word.plain else None
    if negated and fields.canonical(negated[1]) in fields.FIELDS:
        raise QueryError(f"write `not {word.text[1:]}` for `{word.text}`", word.column)
    return bare(word)


def _is_port(word: Word) -> bool:
    return word.text.startswith(":") and word.text[1:].isdecimal()
