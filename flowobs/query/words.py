"""A question's text as words and parentheses. Quoting works within words, as in a shell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from flowobs.filters.ends import Pattern
from flowobs.query.error import QueryError

MOST_CHARACTERS: Final = 4096
_QUOTES: Final = "\"'"
_WILD: Final = "*?"
_BEHIND: Final = re.compile(r"\s+([^\W\d_]++)(?=[\s(),]|\.\.|$)")


@dataclass(frozen=True, slots=True)
class Word:
    """Characters of a word, unquoted. ``quoted`` and ``columns`` have an entry for each."""

    text: str
    quoted: tuple[bool, ...]
    columns: tuple[int, ...]
    column: int
    """Where it begins, its quote included."""
    end: int
    """The column behind it."""
    behind: str = ""
    """Letters that follow after spaces, where they are a value's end: perhaps meant as its unit."""

    @property
    def missing(self) -> bool:
        """There is nothing, not even an empty pair of quotes."""
        return self.column == self.end

    @property
    def plain(self) -> bool:
        """Nothing in it was quoted."""
        return not self.missing and not any(self.quoted) and bool(self.text)

    def cut(self, start: int, stop: int | None = None) -> Word:
        stop = len(self.text) if stop is None else stop
        return Word(
            self.text[start:stop],
            self.quoted[start:stop],
            self.columns[start:stop],
            self.columns[start - 1] + 1 if start else self.column,
            self.columns[stop] if stop < len(self.columns) else self.end,
            self.behind if stop == len(self.text) else "",
        )

    def find(self, wanted: str, start: int = 0) -> int:
        """Where ``wanted`` stands outside of quotes, or -1."""
        at = self.text.find(wanted, start)
        while at >= 0 and any(self.quoted[at : at + len(wanted)]):
            at = self.text.find(wanted, at + 1)
        return at

    def rfind(self, wanted: str) -> int:
        """The last place where the character ``wanted`` stands outside of quotes, or -1."""
        at = self.text.rfind(wanted)
        while at >= 0 and self.quoted[at]:
            at = self.text.rfind(wanted, 0, at)
        return at

    def split(self, mark: str) -> list[Word]:
        """Its parts between the ``mark``s that stand outside of quotes."""
        parts, start = [], 0
        while (at := self.find(mark, start)) >= 0:
            parts.append(self.cut(start, at))
            start = at + len(mark)
        return [*parts, self.cut(start)]

    def pattern(self) -> Pattern:
        """The word as a pattern: wildcards outside of quotes are meant, those inside are not."""
        stars = [quoted for c, quoted in zip(self.text, self.quoted, strict=True) if c in _WILD]
        if True in stars and False in stars:
            raise QueryError(
                "a quoted `*` or `?` cannot stand beside one that is a wildcard; use `?` for it",
                self.column,
            )
        return Pattern(self.text, False in stars)


@dataclass(frozen=True, slots=True)
class Mark:
    """A parenthesis, or the ``!`` before what must not match."""

    text: str
    column: int


def split(text: str) -> list[Word | Mark]:
    """The words and marks of ``text``. Raises QueryError."""
    if len(text) > MOST_CHARACTERS:
        raise QueryError(
            f"the question is longer than {MOST_CHARACTERS} characters; ask for less at once",
            MOST_CHARACTERS + 1,
        )
    for at, c in enumerate(text):
        if c == "\0" or "\ud800" <= c <= "\udfff":
            raise QueryError("there is a character that no name can have; leave it out", at + 1)
    found: list[Word | Mark] = []
    at = 0
    while at < len(text):
        c = text[at]
        if c.isspace():
            at += 1
        elif c in "()!":
            found.append(Mark(c, at + 1))
            at += 1
        else:
            word = _word(text, at)
            found.append(word)
            at = word.end - 1
    return found


def _word(text: str, start: int) -> Word:
    characters: list[str] = []
    quoted: list[bool] = []
    columns: list[int] = []
    quote = ""
    at = opened = start
    while at < len(text) and (quote or not (text[at].isspace() or text[at] in "()")):
        c = text[at]
        if c == quote:
            quote = ""
        elif not quote and c in _QUOTES:
            quote, opened = c, at
        else:
            if quote and c == "\\" and at + 1 < len(text):
                at += 1
            characters.append(text[at])
            quoted.append(bool(quote))
            columns.append(at + 1)
        at += 1
    if quote:
        raise QueryError(f"the quote {quote} is never closed; add another {quote}", opened + 1)
    next = _BEHIND.match(text, at)
    behind = next[1] if next else ""
    return Word("".join(characters), tuple(quoted), tuple(columns), start + 1, at + 1, behind)
