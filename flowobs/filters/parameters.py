"""Filters from the HTTP parameters of docs/api.md."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence

from flowobs import schema
from flowobs.filters.ends import NOT_PORTS, SIDES, pattern, pod
from flowobs.filters.tree import And, Filter, FilterError, Match, Op, Or, all_of, any_of, text_match


def from_parameters(values: Mapping[str, Sequence[str]]) -> Filter:
    """The filter of named values: any value of a name matches, all names must match.

    Raises FilterError with one sentence for a name or a value that makes no sense.
    """
    parts: list[Filter] = []
    for name, texts in values.items():
        make = PARAMETERS.get(name)
        if make is None:
            raise FilterError(f"there is no filter `{name}`; filters are {', '.join(PARAMETERS)}")
        if texts:
            parts.append(any_of([make(text) for text in texts]))
    return all_of(parts)


def _namespace(text: str) -> Filter:
    if not text:
        raise FilterError("`namespace` is empty; give a name or a pattern such as `shop-*`")
    return Or((text_match("src_namespace", text), text_match("dst_namespace", text)))


def _pod(text: str) -> Filter:
    namespace, slash, name = text.rpartition("/")
    if not name or (slash and not namespace) or "/" in namespace:
        raise FilterError(f"`pod` cannot be `{text}`; write `web-0` or `shop/web-*`")

    within = pattern(namespace) if slash else None
    return Or(tuple(pod(side, within, pattern(name)) for side in SIDES))


def _port(text: str) -> Filter:
    number = _number("port", text, 65535)
    ports = Or((Match("src_port", Op.eq, number), Match("dst_port", Op.eq, number)))
    return And((ports, NOT_PORTS))


def _proto(text: str) -> Filter:
    known = schema.Protocol.__members__.get(text.lower())
    if known is None and not text.isdecimal():
        names = ", ".join(schema.Protocol.__members__)
        raise FilterError(f"`proto` cannot be `{text}`; use {names} or a number up to 255")
    return Match("proto", Op.eq, int(known) if known is not None else _number("proto", text, 255))


def _enum(name: str, kind: type[enum.IntEnum]) -> Callable[[str], Filter]:
    def make(text: str) -> Filter:
        member = kind.__members__.get(text.lower())
        if member is None:
            raise FilterError(
                f"`{name}` cannot be `{text}`; use one of {', '.join(kind.__members__)}"
            )
        return Match(name, Op.eq, int(member))

    return make


def _number(name: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= most):
        raise FilterError(f"`{name}` cannot be `{text}`; use a number up to {most}")
    return int(text)


PARAMETERS: dict[str, Callable[[str], Filter]] = {
    "namespace": _namespace,
    "pod": _pod,
    "port": _port,
    "verdict": _enum("verdict", schema.Verdict),
    "kind": _enum("kind", schema.Kind),
    "reporter": _enum("reporter", schema.Reporter),
    "proto": _proto,
}
"""Every filter parameter and what makes a tree of one of its values."""
