"""A filter as a condition over rollups, which know ends by their ids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from flowobs.filters import And, Filter, Match, Not, Or, matches, where
from relay.store.names import NODE_FIELDS
from relay.store.rollup import ENDS

_PLAIN: Final = ("proto", "reporter", "node", "interface", "dst_port")
_ENDS: Final = {f"{side}_{name}": side for side in ("src", "dst") for name in ("ip", *NODE_FIELDS)}
_DAY_NS: Final = 86_400 * 10**9


def answerable(filter: Filter) -> bool:
    """Whether rollups know all that ``filter`` asks for."""
    return all(match.field in _PLAIN or match.field in _ENDS for match in matches(filter))


@dataclass(frozen=True, slots=True)
class Where:
    """A condition over rows of rollups, with its parameters; and the days of their ends."""

    condition: str
    parameters: dict[str, object]
    days: str


def asked(filter: Filter, from_ns: int, to_ns: int) -> Where:
    """``filter``, which must be :func:`answerable`, over buckets of ``from_ns`` .. ``to_ns``."""
    first, last = (f"toDateTime({ns // _DAY_NS * 86_400}, 'UTC')" for ns in (from_ns, to_ns))
    days = f"bucket >= {first} AND bucket <= {last}"
    parameters: dict[str, object] = {}
    return Where(_text(filter, days, parameters), parameters, days)


def _text(filter: Filter, days: str, parameters: dict[str, object]) -> str:
    sides = {_ENDS.get(match.field, "") for match in matches(filter)}
    if len(sides) == 1:
        text = _bound(filter, parameters)
        side = sides.pop()
        if not side:
            return text.replace("dst_port", "port")
        own = re.sub(rf"\b{side}_(\w+)", r"\1", text)
        return f"{side} IN (SELECT id FROM {ENDS} WHERE {days} AND ({own}))"
    match filter:
        case Not(part):
            return f"NOT ({_text(part, days, parameters)})"
        case And(parts):
            return " AND ".join(f"({_text(p, days, parameters)})" for p in parts) or "1"
        case Or(parts):
            return " OR ".join(f"({_text(p, days, parameters)})" for p in parts) or "0"
        case Match():
            raise AssertionError("one match has one side")


def _bound(filter: Filter, parameters: dict[str, object]) -> str:
    # values are never in the text: what looks like a parameter is one
    text, own = where(filter)
    begin = len(parameters)
    parameters |= {f"r{begin + i}": value for i, value in enumerate(own.values())}
    return re.sub(r"\{f(\d+):", lambda found: f"{{r{begin + int(found[1])}:", text)
