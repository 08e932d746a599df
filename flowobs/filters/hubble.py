"""Hubble's FlowFilter as a filter tree.

All fields of a FlowFilter that are set must match, any value of a field does. Messages are taken
as mappings with the names of flow.proto, enums as numbers or names. ``source`` is the end that
opened the flow, as everywhere here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from flowobs.filters.ends import NOT_PORTS, Pattern
from flowobs.filters.glob import glob_regex
from flowobs.filters.selectors import selector
from flowobs.filters.tree import (
    EVERYTHING,
    NOTHING,
    And,
    Filter,
    FilterError,
    Match,
    Not,
    Op,
    all_of,
    any_of,
    network,
    packed,
)
from flowobs.schema import TCP_FLAGS, EndpointKind, Kind, Protocol, Reporter, Verdict

Message = Mapping[str, Any]
_Make = Callable[[Any], Filter]

_PROTOCOLS: Final[Mapping[str, tuple[int, ...]]] = {
    "icmp": (Protocol.icmp, Protocol.icmpv6),
    "icmpv4": (Protocol.icmp,),
    "icmpv6": (Protocol.icmpv6,),
    "tcp": (Protocol.tcp,),
    "udp": (Protocol.udp,),
    "sctp": (Protocol.sctp,),
    "igmp": (Protocol.igmp,),
    "vrrp": (112,),
    # what is inside of packets is not looked at: there are no such flows
    "dns": (),
    "http": (),
    "kafka": (),
}
_VERDICTS: Final = (
    "VERDICT_UNKNOWN", "FORWARDED", "DROPPED", "ERROR", "AUDIT", "REDIRECTED", "TRACED",
    "TRANSLATED",
)  # fmt: skip
_DIRECTIONS: Final = ("TRAFFIC_DIRECTION_UNKNOWN", "INGRESS", "EGRESS")
_VERSIONS: Final = ("IP_NOT_USED", "IPv4", "IPv6")
_DROP, _TRACE = 1, 4
_PEERS: Final = (EndpointKind.external, EndpointKind.world, EndpointKind.vm)


def flow_filters(allow: Sequence[Message], deny: Sequence[Message] = ()) -> Filter:
    """What passes: any filter of ``allow`` (all, if it is empty) and none of ``deny``.

    Raises FilterError for what is not recorded here.
    """
    allowed = any_of([flow_filter(m) for m in allow]) if allow else EVERYTHING
    if not deny:
        return allowed
    return And((allowed, Not(any_of([flow_filter(m) for m in deny]))))


def flow_filter(message: Message) -> Filter:
    """The tree of one FlowFilter; an empty one matches everything. Raises FilterError."""
    parts: list[Filter] = []
    for name, values in message.items():
        if not values:
            continue
        make = _FIELDS.get(name)
        if make is None:
            raise FilterError(f"Hubble's filter `{name}` asks for what is not recorded here")
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise FilterError(f"Hubble's filter `{name}` is a list of values")
        parts.append(any_of([make(value) for value in values]))
    return all_of(parts)


def _ip(side: str, text: str) -> Filter:
    try:
        if "/" in text:
            return Match(f"{side}_ip", Op.inside, network(text))
        return Match(f"{side}_ip", Op.eq, packed(text))
    except ValueError:
        raise FilterError(f"`{text}` is no address; write `10.1.2.3` or `10.0.0.0/8`") from None


def _prefixed(side: str, attribute: str, text: str) -> Filter:
    """``namespace/prefix``; without a namespace it is ``default``, with an empty one any."""
    namespace, slash, prefix = text.rpartition("/")
    if not slash:
        namespace = "default"
    if any(c in "*?" for c in prefix):  # no name has them, and a pattern could not quote them
        return NOTHING
    parts: list[Filter] = []
    if namespace:
        parts.append(Match(f"{side}_namespace", Op.eq, namespace))
    if prefix:
        parts.append(Match(f"{side}_{attribute}", Op.glob, f"{prefix}*"))
    elif not namespace:
        parts.append(Not(Match(f"{side}_{attribute}", Op.eq, "")))
    return all_of(parts)


def _service(side: str, text: str) -> Filter:
    """Any service that selects it."""
    namespace, slash, prefix = text.rpartition("/")
    first = _prefixed(side, "service", text)
    if not prefix or any(c in "*?," for c in prefix):
        return first
    others = _prefixed(side, "service", f"{namespace}/" if slash else "default/")
    return any_of([first, all_of([others, Match(f"{side}_services", Op.item, f"{prefix}*")])])


def _identity(side: str, value: int) -> Filter:
    if not isinstance(value, int):
        raise FilterError(f"`identity` cannot be `{value}`; use a number")
    return Match(f"{side}_identity", Op.eq, value)


def _pattern(field: str, text: str) -> Match:
    text = text.lower().removesuffix(".")
    return Pattern(text, "*" in text).match(field)


def _fqdn(side: str, text: str) -> Filter:
    peer = Match(f"{side}_kind", Op.any_of, tuple(int(kind) for kind in _PEERS))
    return And((peer, _pattern(f"{side}_name", text)))


def _workload(side: str, value: Message) -> Filter:
    parts: list[Filter] = []
    if value.get("name"):
        parts.append(Match(f"{side}_workload", Op.eq, value["name"]))
    if value.get("kind"):
        parts.append(Match(f"{side}_workload_kind", Op.eq, value["kind"]))
    return all_of(parts)


def _port(side: str, text: str) -> Filter:
    if not (text.isascii() and text.isdecimal() and int(text[:9]) <= 65535):
        raise FilterError(f"`{text}` is no port; use a number up to 65535")
    return And((Match(f"{side}_port", Op.eq, int(text)), NOT_PORTS))


def _number(name: str, names: Sequence[str], value: int | str) -> int:
    if isinstance(value, int):
        return value
    if value not in names:
        raise FilterError(f"`{name}` cannot be `{value}`; use one of {', '.join(names)}")
    return names.index(value)


def _verdict(value: int | str) -> Filter:
    number = _number("verdict", _VERDICTS, value)
    return Match("verdict", Op.eq, number) if number in tuple(Verdict) else NOTHING


def _direction(value: int | str) -> Filter:
    number = _number("traffic_direction", _DIRECTIONS, value)
    ends = {1: (Reporter.destination,), 2: (Reporter.source,)}
    reporters = ends.get(number, (Reporter.unknown, Reporter.transit))
    return any_of([Match("reporter", Op.eq, int(r)) for r in reporters])


def _version(value: int | str) -> Filter:
    v4 = Match("src_ip", Op.inside, network("0.0.0.0/0"))
    number = _number("ip_version", _VERSIONS, value)
    return v4 if number == 1 else Not(v4) if number == 2 else NOTHING


def _protocol(text: str) -> Filter:
    numbers = _PROTOCOLS.get(text.lower())
    if numbers is None:
        raise FilterError(f"`protocol` cannot be `{text}`; use one of {', '.join(_PROTOCOLS)}")
    return any_of([Match("proto", Op.eq, int(n)) for n in numbers])


def _event(value: Message) -> Filter:
    if value.get("match_sub_type"):
        raise FilterError("Hubble's event sub types are not recorded; filter by the type alone")
    number = value.get("type", 0)
    if number == 0:
        return EVERYTHING
    drop = Match("kind", Op.eq, int(Kind.drop))
    return drop if number == _DROP else Not(drop) if number == _TRACE else NOTHING


def _flags(value: Message) -> Filter:
    bits = sum(1 << bit for bit, name in enumerate(TCP_FLAGS) if value.get(name))
    return Match("tcp_flags", Op.bits, bits) if bits else EVERYTHING


def _node(text: str) -> Filter:
    cluster, slash, node = text.rpartition("/")
    # a node of ours is in no named cluster, which Hubble calls `default`
    if slash and cluster and not glob_regex(cluster.lower()).fullmatch("default"):
        return NOTHING
    return _pattern("node", node) if node else EVERYTHING


def _drop_reason(value: int | str) -> Filter:
    if isinstance(value, int):  # Cilium's numbers; what the kernel drops has none of them but 0
        return Not(Match("drop_reason", Op.eq, "")) if value == 0 else NOTHING
    return Match("drop_reason", Op.eq, value)


def _interface(value: Message) -> Filter:
    if not value.get("name"):
        raise FilterError("Hubble's filter `interface` needs a `name` here")
    return Match("interface", Op.eq, value["name"])


def _sided(name: str, side: str) -> dict[str, _Make]:
    return {
        f"{name}_ip": lambda v: _ip(side, v),
        f"{name}_pod": lambda v: _prefixed(side, "name", v),
        f"{name}_service": lambda v: _service(side, v),
        f"{name}_label": lambda v: selector(side, v),
        f"{name}_identity": lambda v: _identity(side, v),
        f"{name}_fqdn": lambda v: _fqdn(side, v),
        f"{name}_workload": lambda v: _workload(side, v),
        f"{name}_port": lambda v: _port(side, v),
        f"{name}_cluster_name": lambda v: _pattern(f"{side}_cluster", v),
    }


_FIELDS: Final[dict[str, _Make]] = {
    **_sided("source", "src"),
    **_sided("destination", "dst"),
    "verdict": _verdict,
    "traffic_direction": _direction,
    "ip_version": _version,
    "protocol": _protocol,
    "event_type": _event,
    "tcp_flags": _flags,
    "node_name": _node,
    "drop_reason_desc": _drop_reason,
    "interface": _interface,
    "reply": lambda value: Match("reply", Op.eq, int(bool(value))),
}
