"""Addresses that say by themselves what they are: the world, multicast ... (IANA's registries)."""

from __future__ import annotations

import ipaddress

from flowobs.batch import Endpoint
from flowobs.identity.numbers import Reserved
from flowobs.identity.prefixes import Prefix, Prefixes
from flowobs.schema import EndpointKind

_WORLD = Endpoint(EndpointKind.world, identity=Reserved.world)
_UNKNOWN = Endpoint()
_MULTICAST = Endpoint(name="multicast")
_BROADCAST = Endpoint(name="broadcast")
_LINK_LOCAL = Endpoint(name="link-local")
_LOCALHOST = Endpoint(EndpointKind.host, name="localhost", identity=Reserved.host)

_LOOPBACK_V4 = b"\0" * 10 + b"\xff\xff\x7f"
_LOOPBACK_V6 = b"\0" * 15 + b"\1"

_RANGES: dict[str, Endpoint] = {
    "0.0.0.0/0": _WORLD,
    "0.0.0.0/8": _UNKNOWN,
    "10.0.0.0/8": _UNKNOWN,
    "100.64.0.0/10": _UNKNOWN,  # shared address space: carriers, and many clouds' pods
    "127.0.0.0/8": _LOCALHOST,
    "169.254.0.0/16": _LINK_LOCAL,
    "172.16.0.0/12": _UNKNOWN,
    "192.0.0.0/24": _UNKNOWN,
    "192.0.2.0/24": _UNKNOWN,
    "192.168.0.0/16": _UNKNOWN,
    "198.18.0.0/15": _UNKNOWN,
    "198.51.100.0/24": _UNKNOWN,
    "203.0.113.0/24": _UNKNOWN,
    "224.0.0.0/4": _MULTICAST,
    "240.0.0.0/4": _UNKNOWN,
    "255.255.255.255/32": _BROADCAST,
    "::/0": _UNKNOWN,
    "::1/128": _LOCALHOST,
    "2000::/3": _WORLD,
    "2001:db8::/32": _UNKNOWN,
    "64:ff9b::/96": _WORLD,  # NAT64
    "fe80::/10": _LINK_LOCAL,
    "ff00::/8": _MULTICAST,
}

_TABLE = Prefixes.always({Prefix.of(ipaddress.ip_network(r)): e for r, e in _RANGES.items()})


def by_address(address: bytes) -> Endpoint:
    """What an address (16 bytes) says by itself; ``identity_source`` stays empty."""
    return _TABLE.at(address, 0).endpoint or _UNKNOWN


def is_loopback(address: bytes) -> bool:
    """Whether packets to this address (16 bytes) never leave their machine."""
    return address == _LOOPBACK_V6 or address.startswith(_LOOPBACK_V4)


def is_link_local(address: bytes) -> bool:
    """Whether the address (16 bytes) holds on one link only."""
    return by_address(address) is _LINK_LOCAL
