"""Addresses and sources for tests."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from flowobs.batch import Endpoint
from flowobs.identity.prefixes import Prefix, Prefixes
from flowobs.identity.source import Answer, Claim, Socket
from flowobs.schema import EndpointKind


def ip(text: str) -> bytes:
    """16 bytes of an address in text."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return bytes(10) + b"\xff\xff" + address.packed
    return address.packed


def prefix(text: str) -> Prefix:
    return Prefix.of(ipaddress.ip_network(text))


def pod(name: str, source: str = "inventory") -> Endpoint:
    return Endpoint(EndpointKind.pod, "demo", "shop", name, identity_source=source)


@dataclass
class FakeSource:
    """Knows what its test puts in; `replace` is a reload."""

    name: str = "inventory"
    prefixes: Prefixes = field(default_factory=lambda: Prefixes({}))
    sockets: dict[Socket, Endpoint] = field(default_factory=dict)
    generation: int = 0
    asked: int = 0
    age_s: int = 0

    @classmethod
    def of(cls, entries: dict[str, Endpoint], name: str = "inventory") -> FakeSource:
        return cls(name, Prefixes.always({prefix(t): e for t, e in entries.items()}))

    def replace(self, entries: dict[str, Endpoint], now_ns: int) -> None:
        self.prefixes = self.prefixes.replaced({prefix(t): e for t, e in entries.items()}, now_ns)
        self.generation += 1

    def poll(self) -> None:
        pass

    def by_address(self, address: bytes, time_ns: int) -> Answer:
        self.asked += 1
        return self.prefixes.at(address, time_ns)

    def explain(self, address: bytes, time_ns: int) -> list[Claim]:
        return self.prefixes.claims(self.name, address, time_ns)

    def explain_name(self, namespace: str | None, name: str, time_ns: int) -> list[Claim]:
        addresses = sorted(self.prefixes.called(namespace, name))
        return [claim for a in addresses for claim in self.explain(a, time_ns)]

    def by_socket(self, socket: Socket) -> Endpoint | None:
        return self.sockets.get(socket)
