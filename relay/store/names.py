"""SQL of what stands on the map: the ends of flows, and what each belongs to."""

from __future__ import annotations

from typing import Final

from flowobs.schema import EndpointKind

NODE_FIELDS: Final = (
    "kind", "cluster", "namespace", "name", "workload", "workload_kind", "service", "node",
    "zone", "labels", "services", "identity",
)  # fmt: skip
"""Attributes by which an end is one: those of the endpoint that a map can show or ask for."""

SHOWN: Final = NODE_FIELDS[:9]
"""Attributes that a map shows of a node."""

GROUPS: Final = (
    "pod", "workload", "service", "namespace", "node", "zone", "cluster", "process", "address",
)  # fmt: skip
"""What ends can be put together by; besides, ``label:KEY``."""

LABEL: Final = "label:"


def label_sql(group: str, side: str = "", key: str = "{label:String}") -> str:
    """The node of ``group`` to which an end belongs, of columns that begin with ``side``.

    What has no such attribute stands for itself, so that nothing disappears. ``key`` is the name
    of a label, as SQL.
    """
    one = _one(side)
    if group == "pod":
        return one
    if group == "address":
        return _address(side)
    if group == "process":
        process = f"{side}process"
        return f"if({process} = '', {one}, concat({one}, ' ', {process}))"
    if group.startswith(LABEL):
        # `,app=` begins its value: labels are `k=v` between commas
        value = (
            f"extract(concat(',', {side}labels), concat(',', regexpQuoteMeta({key}), '=([^,]*)'))"
        )
        return f"if({value} = '', {one}, concat({key}, '=', {value}))"
    if group in ("workload", "service"):
        return (
            f"if({side}{group} = '' OR {side}namespace = '', {one},"
            f" concat({side}namespace, '/', {side}{group}))"
        )
    return f"if({side}{group} = '', {one}, toString({side}{group}))"


def _address(side: str) -> str:
    return f"replaceRegexpOne(toString({side}ip), '^::ffff:', '')"


def _one(side: str) -> str:
    """namespace/name, host/workload, name, or the address.

    Nobody owns the addresses of unnamed groups of receivers, and the world has too many: each is
    one node.
    """
    name, namespace, ip = f"{side}name", f"{side}namespace", f"{side}ip"
    namespaced = f"{side}kind IN ({EndpointKind.pod:d}, {EndpointKind.service:d})"
    return f"""multiIf(
      {name} != '' AND {namespaced} AND {namespace} != '', concat({namespace}, '/', {name}),
      {name} != '' AND {side}kind = {EndpointKind.host:d} AND {side}workload != '',
        concat({name}, '/', {side}workload),
      {name} != '', toString({name}),
      {side}kind = {EndpointKind.world:d}, 'world',
      isIPAddressInRange(toString({ip}), '::ffff:224.0.0.0/100')
        OR isIPAddressInRange(toString({ip}), 'ff00::/8'), 'multicast',
      {ip} = toIPv6('::ffff:255.255.255.255'), 'broadcast',
      {_address(side)})"""
