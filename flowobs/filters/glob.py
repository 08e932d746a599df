"""Globs as regular expressions."""

from __future__ import annotations

import re
from collections.abc import Callable

LIST_MARK = ","
"""What stands between the values of a list."""


def item_matcher(pattern: str) -> Callable[[str], bool]:
    """Whether one of the values in a list's text matches a glob."""
    found = glob_regex(pattern).fullmatch
    return lambda text: any(found(item) is not None for item in text.split(LIST_MARK))


def item_regex(pattern: str) -> str:
    """The same in RE2's words, to be searched for in the list's text."""
    parts = {"*": f"[^{LIST_MARK}]*", "?": f"[^{LIST_MARK}]"}
    # RE2 takes a backslash before any ASCII sign, but not before letters and digits
    one = "".join(
        parts.get(c) or (c if c.isalnum() or not c.isascii() else f"\\x{ord(c):02x}")
        for c in pattern
    )
    return f"(?:^|{LIST_MARK}){one}(?:$|{LIST_MARK})"


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
