"""Who an address or a socket is, at a given time."""

from flowobs.identity.addresses import AddressTable
from flowobs.identity.cgroup_paths import CgroupPaths, find_mount
from flowobs.identity.host import HostSource
from flowobs.identity.inventory import InventorySource
from flowobs.identity.inventory_file import InventoryError
from flowobs.identity.resolver import Resolver
from flowobs.identity.source import Answer, IdentitySource, Socket

__all__ = [
    "AddressTable",
    "Answer",
    "CgroupPaths",
    "HostSource",
    "IdentitySource",
    "InventoryError",
    "InventorySource",
    "Resolver",
    "Socket",
    "find_mount",
]
