"""Filters of one end of a flow, where a name is more than one column."""

from __future__ import annotations

from typing import Final, NamedTuple

from flowobs.filters.tree import NOTHING, And, Filter, Match, Not, Op, Or
from flowobs.schema import EndpointKind, Protocol

SIDES: Final = ("src", "dst")
NOT_PORTS: Final = Not(Match("proto", Op.any_of, (int(Protocol.icmp), int(Protocol.icmpv6))))
"""ICMP keeps its echo identifier where others have a port: it must not be found by port."""


class Pattern(NamedTuple):
    """What a string must be: ``text`` itself, or, with ``wild``, anything its wildcards allow."""

    text: str
    wild: bool

    def match(self, field: str) -> Match:
        return Match(field, Op.glob if self.wild else Op.eq, self.text)


def pattern(text: str) -> Pattern:
    """``text`` as people write it where nothing can be quoted."""
    return Pattern(text, "*" in text or "?" in text)


def pod(side: str, namespace: Pattern | None, name: Pattern) -> Filter:
    """``name``, ``namespace/name``, or ``host/workload`` for what runs on a host itself."""
    named = name.match(f"{side}_name")
    if namespace is None:
        return named
    on_host = (
        Match(f"{side}_kind", Op.eq, int(EndpointKind.host)),
        namespace.match(f"{side}_name"),
        name.match(f"{side}_workload"),
    )
    return Or((And((namespace.match(f"{side}_namespace"), named)), And(on_host)))


def listed(field: str, wanted: Pattern) -> Filter:
    """One of the values of a list is ``wanted``."""
    if not wanted.wild and any(c in "*?" for c in wanted.text):
        return NOTHING  # no name or label has them
    return Match(field, Op.item, wanted.text)


def workload(side: str, namespace: Pattern | None, name: Pattern) -> Filter:
    """``name`` or ``namespace/name`` of a workload."""
    return _within(side, namespace, name.match(f"{side}_workload"))


def service(side: str, namespace: Pattern | None, name: Pattern) -> Filter:
    """``name`` or ``namespace/name`` of a service: its address, or any that selects it."""
    is_service = Match(f"{side}_kind", Op.eq, int(EndpointKind.service))
    itself = And((is_service, name.match(f"{side}_name")))
    behind = (name.match(f"{side}_service"), listed(f"{side}_services", name))
    return _within(side, namespace, Or((*behind, itself)))


def _within(side: str, namespace: Pattern | None, named: Filter) -> Filter:
    return named if namespace is None else And((namespace.match(f"{side}_namespace"), named))
