"""SQL of a node's id on the map."""

from __future__ import annotations

from typing import Final

from flowobs.schema import EndpointKind

NODE_FIELDS: Final = (
    "kind", "cluster", "namespace", "name", "workload", "workload_kind", "service", "node",
)  # fmt: skip
"""What the map shows of a node."""


def end_id(side: str) -> str:
    """The id of one end: namespace/name, host/workload, name, or the address.

    Unnamed groups of receivers become one node each: nobody owns those addresses. Rollups keep
    ids: a change here needs a migration that makes the rollups anew.
    """
    name, namespace, ip = f"{side}_name", f"{side}_namespace", f"{side}_ip"
    namespaced = f"{side}_kind IN ({EndpointKind.pod:d}, {EndpointKind.service:d})"
    return f"""multiIf(
      {name} != '' AND {namespaced} AND {namespace} != '', concat({namespace}, '/', {name}),
      {name} != '' AND {side}_kind = {EndpointKind.host:d} AND {side}_workload != '',
        concat({name}, '/', {side}_workload),
      {name} != '', toString({name}),
      isIPAddressInRange(toString({ip}), '::ffff:224.0.0.0/100')
        OR isIPAddressInRange(toString({ip}), 'ff00::/8'), 'multicast',
      {ip} = toIPv6('::ffff:255.255.255.255'), 'broadcast',
      replaceRegexpOne(toString({ip}), '^::ffff:', ''))"""
