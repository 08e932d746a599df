"""Globs as regular expressions."""

from __future__ import annotations

import re


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
