"""What is wrong with a question, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from flowobs.filters.tree import FilterError


class QueryError(FilterError):
    """A question that makes no sense: one sentence, and the column (from 1) that it is about."""

    def __init__(self, sentence: str, column: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.column = column


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like ``word``, if any is."""
    found = difflib.get_close_matches(word[:64].lower(), list(known), 1, 0.6)
    return found[0] if found else None
