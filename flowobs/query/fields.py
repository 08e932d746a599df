"""Names that a question may use, and what each makes of a comparison: all from the schema."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from flowobs import schema
from flowobs.filters.ends import NOT_PORTS, SIDES, Pattern, listed, pod, service, workload
from flowobs.filters.tree import And, Filter, Match, Op, any_of
from flowobs.query.ends import end_filter, split_name
from flowobs.query.error import QueryError, nearest
from flowobs.query.term import Term, column_filter
from flowobs.query.words import Word

Maker = Callable[[Term], Filter]
_NamedEnd = Callable[[str, Pattern | None, Pattern], Filter]

ALIASES: Final = {
    "ns": "namespace",
    "protocol": "proto",
    "reason": "drop_reason",
    "close": "close_reason",
    "iface": "interface",
    "flags": "tcp_flags",
    "svc": "service",
    "addr": "ip",
    "rtt": "srtt",
    "labels": "label",
    "src": "from",
    "dst": "to",
}
"""Short names. One whose column does not exist yet does not exist either."""

TIME_UNITS: Final = ("_ns", "_us", "_ms")
"""Endings of names that a question may leave out."""

_SIDE_NAMES: Final = {"from": "src", "source": "src", "to": "dst", "destination": "dst"}
_NOT_RECORDED: Final = {
    "http", "grpc", "dns", "fqdn", "uuid", "trace",
}  # fmt: skip


def make(term: Term) -> Filter:
    """The tree of one comparison. Raises QueryError."""
    maker = FIELDS.get(canonical(term.name))
    if maker is None:
        raise _unknown(term)
    return maker(term)


def canonical(name: str) -> str:
    """``from.ns`` as ``src.namespace``, ``icmp.type`` as ``icmp_type``."""
    name = name.lower()
    head, dot, rest = name.partition(".")
    if dot and head in (*SIDES, *_SIDE_NAMES):
        name = f"{_SIDE_NAMES.get(head, head)}.{ALIASES.get(rest, rest)}"
    name = ALIASES.get(name, name) if name not in FIELDS else name
    return name if name in FIELDS else name.replace(".", "_")


def _unknown(term: Term) -> QueryError:
    name = term.name.lower()
    if name.replace("_", ".").split(".")[0] in _NOT_RECORDED:
        return QueryError(f"`{term.name}` is not recorded yet; leave it out", term.column)
    close = nearest(name, [*FIELDS, *(a for a, field in ALIASES.items() if field in FIELDS)])
    hint = f"did you mean `{close}`?" if close else "docs/query.md has them all"
    return QueryError(
        f"there is no field `{term.name}`; {hint} (a word in quotes is searched for as it is)",
        term.column,
    )


def _either(makers: tuple[Maker, ...], term: Term) -> Filter:
    return any_of([maker(term) for maker in makers])


def _port(sides: tuple[str, ...], term: Term) -> Filter:
    ports = any_of([column_filter(f"{side}_port", term) for side in sides])
    return And((ports, NOT_PORTS))


def _named(sides: tuple[str, ...], attribute: str, end: _NamedEnd, term: Term) -> Filter:
    if term.op == "~":
        columns = [f"{side}_{attribute}" for side in sides]
        return any_of([Match(c, Op.contains, word.text) for word in term.values for c in columns])
    if not term.equal:
        raise term.no_operator()
    names = [split_name(word) for word in term.values]
    return any_of([end(side, *name) for name in names for side in sides])


def _label(sides: tuple[str, ...], term: Term) -> Filter:
    """``app=web``, ``app=we*``, or ``app`` for any value."""
    if term.op == "~":
        return any_of([column_filter(f"{side}_labels", term) for side in sides])
    if not term.equal:
        raise term.no_operator()
    return any_of(
        [listed(f"{side}_labels", _label_pattern(word)) for word in term.values for side in sides]
    )


def _label_pattern(word: Word) -> Pattern:
    found = word.pattern()
    if "=" in found.text or not found.text or (not found.wild and "*" in found.text):
        return found
    return Pattern(f"{found.text}=*", True)


def _table() -> dict[str, Maker]:
    found: dict[str, Maker] = {c.name: partial(column_filter, c.name) for c in schema.COLUMNS}
    attributes = [
        name.removeprefix("src_")
        for name in found
        if name.startswith("src_") and f"dst_{name.removeprefix('src_')}" in found
    ]
    for attribute in attributes:
        sided = tuple(found[f"{side}_{attribute}"] for side in SIDES)
        for side, maker in zip(SIDES, sided, strict=True):
            found[f"{side}.{attribute}"] = maker
        if attribute == "labels":
            continue  # `label` is what they are asked by
        # `kind` and `node` of the record itself are more often meant than those of its ends
        found.setdefault(attribute, partial(_either, sided))
    named: dict[str, tuple[str, _NamedEnd]] = {
        "pod": ("name", pod),
        "workload": ("workload", workload),
        "service": ("service", service),
    }
    for prefix, sides in (("", SIDES), ("src.", ("src",)), ("dst.", ("dst",))):
        found[f"{prefix}port"] = partial(_port, sides)
        found[f"{prefix}label"] = partial(_label, sides)
        for name, (attribute, end) in named.items():
            found[f"{prefix}{name}"] = partial(_named, sides, attribute, end)
    found["from"] = partial(end_filter, ("src",))
    found["to"] = partial(end_filter, ("dst",))
    found["end"] = partial(end_filter, SIDES)
    for name in list(found):  # `connect` for `connect_ns`: the value says its unit
        short = name.rpartition("_")[0]
        if name.endswith(TIME_UNITS) and short not in ALIASES:
            found.setdefault(short, found[name])
    return found


FIELDS: Final[dict[str, Maker]] = _table()
"""Every name but the aliases."""
