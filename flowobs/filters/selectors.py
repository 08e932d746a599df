"""Kubernetes' label selectors, in Cilium's spelling, as a filter of one end."""

from __future__ import annotations

import re
from typing import Final

from flowobs.filters.tree import (
    NOTHING,
    Filter,
    FilterError,
    Match,
    Not,
    Op,
    all_of,
    any_of,
)
from flowobs.identity.numbers import Reserved

_NAME: Final = r"[A-Za-z0-9_./-]+"
_TERM: Final = re.compile(
    rf"\s*(?P<absent>!?)\s*(?:(?P<source>[a-z0-9-]+):)?(?P<key>{_NAME})\s*"
    rf"(?:(?P<sign>==|!=|=)\s*(?P<value>[A-Za-z0-9_.-]*)\s*|"
    rf"\s(?P<set>in|notin)\s*\((?P<values>[A-Za-z0-9_.,\s-]*)\)\s*)?(?:,|$)"
)
_SOURCES: Final = (None, "k8s", "any", "unspec", "container")
_COLUMNS: Final = {
    "io.kubernetes.pod.namespace": "namespace",
    "io.cilium.k8s.policy.cluster": "cluster",
}
"""Labels that Cilium makes of what has a column of its own here."""
_RESERVED: Final = {r.name.replace("_", "-"): int(r) for r in Reserved}


def selector(side: str, text: str) -> Filter:
    """``app=web,tier in (a,b),!canary,reserved:host``: all of them. Raises FilterError."""
    parts: list[Filter] = []
    at = 0
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None or found.end() == at:
            raise FilterError(
                f"`{text}` is no label selector; write `app=web`, `tier in (a,b)` or `!canary`"
            )
        parts.append(_term(side, found))
        at = found.end()
    return all_of(parts)


def _term(side: str, found: re.Match[str]) -> Filter:
    source, key = found["source"], found["key"]
    if found["sign"]:
        values = [found["value"]]
    elif found["set"]:
        values = [value.strip() for value in found["values"].split(",")]
    else:
        values = []
    if source == "reserved":
        matched = _reserved(side, key)
    elif source not in _SOURCES:
        matched = NOTHING
    elif key in _COLUMNS:
        matched = _column(f"{side}_{_COLUMNS[key]}", values)
    else:
        pairs = [f"{key}={value}" for value in values] or [f"{key}=*"]
        matched = any_of([Match(f"{side}_labels", Op.item, pair) for pair in pairs])
    wanted = not (found["absent"] or found["sign"] == "!=" or found["set"] == "notin")
    return matched if wanted else Not(matched)


def _column(field: str, values: list[str]) -> Filter:
    if not values:
        return Not(Match(field, Op.eq, ""))
    return any_of([Match(field, Op.eq, value) for value in values])


def _reserved(side: str, name: str) -> Filter:
    number = _RESERVED.get(name)
    return NOTHING if number is None else Match(f"{side}_identity", Op.eq, number)
