"""Ends of a flow in a question: ``from:``, ``to:``, ``end:`` and bare words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from flowobs.filters.ends import NOT_PORTS, SIDES, Pattern, pod
from flowobs.filters.tree import EVERYTHING, And, Filter, Match, Op, Or, any_of
from flowobs.query.error import QueryError
from flowobs.query.term import Term
from flowobs.query.values import address, address_match
from flowobs.query.words import Word

NAMES: Final = ("name", "namespace", "workload", "service")
"""What ``from:`` and ``to:`` look at."""
_SEARCHED: Final = (*NAMES, "process")
"""What a bare word looks at."""

_DOTTED = re.compile(r"\d+(\.\d+){3}(/\d+)?")

_Named = Callable[[str, Word], Filter]


def end_filter(sides: tuple[str, ...], term: Term) -> Filter:
    """``from:``, ``to:`` or ``end:``: an address, a network or exactly this name."""
    if term.op == "~":
        return any_of([_either(sides, word, _contains) for word in term.values])
    if not term.equal:
        raise term.no_operator()
    return any_of([_either(sides, word, _exactly) for word in term.values])


def bare(word: Word) -> Filter:
    """A word without a field: an address, a port (``:443``), or a part of either end's names."""
    if word.plain and not word.text.strip("*"):
        return EVERYTHING
    return _either(SIDES, word, _exactly if word.pattern().wild else _contains)


def _either(sides: tuple[str, ...], word: Word, named: _Named) -> Filter:
    host, port = _with_port(word)
    found = address(host.text)
    if found is None and host.plain and _DOTTED.fullmatch(host.text):
        raise QueryError(
            f"`{host.text}` is no address; write `10.1.2.3` or `10.0.0.0/8`", host.column
        )
    ends: list[Filter] = []
    for side in sides:
        parts: list[Filter] = []
        if found is not None:
            parts.append(address_match(f"{side}_ip", found))
        elif not host.missing:
            parts.append(named(side, host))
        if port is not None:
            parts.append(Match(f"{side}_port", Op.eq, port))
        ends.append(parts[0] if len(parts) == 1 else And(tuple(parts)))
    either = any_of(ends)
    return either if port is None else And((either, NOT_PORTS))


def _with_port(word: Word) -> tuple[Word, int | None]:
    """``shop/web-0:8080``, ``10.1.2.3:443``, ``[fd00::1]:443`` or ``:443`` as end and port."""
    at = word.rfind(":")
    if at < 0 or address(word.text) is not None:
        return word, None
    host, port = word.cut(0, at), word.cut(at + 1)
    if host.text.startswith("[") and host.text.endswith("]"):
        host = host.cut(1, len(host.text) - 1)
    elif ":" in host.text:
        return word, None
    if not (port.text.isascii() and port.text.isdecimal() and len(port.text) <= 5):
        return word, None
    if int(port.text) > 65535:
        raise QueryError(f"a port cannot be `{port.text}`; it is at most 65535", port.column)
    return host, int(port.text)


def split_name(word: Word) -> tuple[Pattern | None, Pattern]:
    """``namespace/name`` or ``name``. Raises QueryError."""
    parts = word.split("/")
    if len(parts) > 2 or not all(part.text for part in parts):
        raise QueryError(f"`{word.text}` is no name; write `web-0` or `shop/web-*`", word.column)
    return (parts[0].pattern() if len(parts) == 2 else None), parts[-1].pattern()


def _exactly(side: str, word: Word) -> Filter:
    namespace, name = split_name(word)
    if namespace is not None:
        return pod(side, namespace, name)
    return Or(tuple(name.match(f"{side}_{attribute}") for attribute in NAMES))


def _contains(side: str, word: Word) -> Filter:
    namespace, slash, name = word.text.rpartition("/")
    if not slash:
        return Or(tuple(Match(f"{side}_{a}", Op.contains, name) for a in _SEARCHED))
    # a part of `shop/web-0`: the end of one name and the beginning of the other
    if "*" in word.text or "?" in word.text:
        raise QueryError("`*` and `?` cannot be quoted beside a `/`; leave one out", word.column)
    within, named = Pattern(f"*{namespace}", True), Pattern(f"{name}*", True)
    return pod(side, within, named)
