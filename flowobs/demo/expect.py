"""What the service map must say after the demo's workload has run, and what it must not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from flowobs.demo import plan

Map = dict[str, Any]
Key = tuple[str, str, str, int]
"""source, destination, protocol, port: what makes an edge one edge."""

ICMP = ("icmp", "icmpv6")


@dataclass(frozen=True, slots=True)
class Edge:
    source: str
    destination: str
    proto: str
    port: int = 0
    one_of: tuple[str, ...] = ()
    """Counters of which at least one must not be zero."""

    @property
    def key(self) -> Key:
        return self.source, self.destination, self.proto, self.port

    def __str__(self) -> str:
        return describe(self.key) + (f" with {' or '.join(self.one_of)}" if self.one_of else "")


def edges() -> list[Edge]:
    web, redis, dns = plan.WEB.id, plan.REDIS.id, plan.DNS.id
    batch, laptop = plan.BATCH.id, plan.OUTSIDE.id
    apis = (plan.API_0.id, plan.API_1.id)
    ask_dns = (laptop, web, *apis, batch)
    return [
        Edge(laptop, web, "tcp", plan.HTTP_PORT),
        *(Edge(web, api, "tcp", plan.API_PORT) for api in apis),
        *(Edge(batch, api, "tcp", plan.API_PORT) for api in apis),
        *(Edge(api, redis, "tcp", plan.REDIS_PORT) for api in apis),
        *(Edge(client, dns, "udp", plan.DNS_PORT) for client in ask_dns),
        Edge(batch, redis, "tcp", plan.REFUSED_PORT, ("fails", "resets")),
        Edge(batch, plan.PARTNER, "tcp", plan.PARTNER_PORT, ("drops", "fails")),
        Edge(batch, redis, "icmp"),
        Edge(laptop, web, "icmpv6"),
        Edge(plan.NODE, batch, "icmp"),  # "host unreachable", for the partner's address
    ]


def problems(found: Map, expected: Iterable[Edge]) -> list[str]:
    """One sentence for each expected edge that is missing, doubled or made up."""
    seen = Counter(key(edge) for edge in found["edges"])
    by_key = {key(edge): edge for edge in found["edges"]}
    wanted = {edge.key: edge for edge in expected}
    said = []
    for edge in wanted.values():
        counters = by_key.get(edge.key)
        if counters is None:
            said.append(f"missing: {edge}")
        elif edge.one_of and not any(counters.get(name) for name in edge.one_of):
            said.append(f"missing: {edge} (the edge is there, these are 0)")
    said += [f"{n} times: {describe(edge)}" for edge, n in seen.items() if n > 1]
    said += [
        f"nobody sent this: {describe(edge)}"
        for edge in seen
        # hosts tell their multicast groups, and look for neighbours, when they like
        if edge not in wanted and edge[2] != "icmpv6"
    ]
    return said + name_problems(found)


def name_problems(found: Map) -> list[str]:
    """Nodes of the map without a name, and addresses that two nodes have."""
    said = [f"no name: {node['id']}" for node in found["nodes"] if is_address(node["id"])]
    owners = Counter(a for node in found["nodes"] for a in set(node.get("addresses", ())))
    return said + [f"two nodes have the address {a}" for a, n in owners.items() if n > 1]


def key(edge: dict[str, Any]) -> Key:
    proto = str(edge["proto"])
    return edge["source"], edge["destination"], proto, 0 if proto in ICMP else edge.get("port", 0)


def describe(edge: Key) -> str:
    source, destination, proto, port = edge
    return f"{source} -> {destination} {proto}" + (f"/{port}" if port else "")


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
