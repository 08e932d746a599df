"""What the demo's network looks like: hosts, addresses, names. Pure data; `network` builds it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Literal

PREFIX = "fodemo-"
"""Every namespace of the demo starts with it; leftovers are found by it."""

NODE_NS = f"{PREFIX}node"
NODE = "node-1"
CLUSTER = "demo"
DOMAIN = "demo.test"

POD_CIDRS = ("10.88.0.0/24", "fd00:88::/64")
BRIDGE_ADDRESSES = ("10.88.0.1", "fd00:88::1")
UPLINK_ADDRESSES = ("192.0.2.1", "2001:db8:99::1")

PARTNER = "partner-billing"
PARTNER_PORT = 443
PARTNER_ADDRESS = "203.0.113.9"
"""The node has an `unreachable` route to it: it drops the packets and answers by ICMP."""


BRIDGE_MAC = "02:88:00:00:00:01"
UPLINK_MAC = "02:99:00:00:00:01"


def link_local(mac: str) -> str:
    """The address that the kernel makes from a MAC (RFC 4291, modified EUI-64)."""
    a, b, c, d, e, f = (int(part, 16) for part in mac.split(":"))
    last = bytes((a ^ 2, b, c, 0xFF, 0xFE, d, e, f))
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + last))


NODE_ADDRESSES = (
    *BRIDGE_ADDRESSES,
    *UPLINK_ADDRESSES,
    link_local(BRIDGE_MAC),
    link_local(UPLINK_MAC),
)


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace with one interface."""

    name: str
    kind: Literal["pod", "host"]
    v4: str
    v6: str
    gateway: tuple[str, str]
    gateway_mac: str
    prefix: tuple[int, int]
    mac: str
    namespace: str = ""
    workload: tuple[str, str] = ("", "")
    service: str = ""

    @property
    def netns(self) -> str:
        return PREFIX + self.name

    @property
    def link(self) -> str:
        """The node's end of the veth pair; kernel names are at most 15 characters."""
        return f"veth-{self.name}"

    @property
    def link_local(self) -> str:
        return link_local(self.mac)

    @property
    def id(self) -> str:
        """Its id on the service map."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def _pod(number: int, namespace: str, name: str, workload: str, kind: str, service: str) -> Host:
    return Host(
        name=name,
        kind="pod",
        v4=f"10.88.0.{number}",
        v6=f"fd00:88::{number}",
        gateway=BRIDGE_ADDRESSES,
        gateway_mac=BRIDGE_MAC,
        prefix=(24, 64),
        mac=f"02:88:00:00:00:{number:02x}",
        namespace=namespace,
        workload=(kind, workload),
        service=service,
    )


WEB = _pod(10, "shop", "web-0", "web", "Deployment", "web")
API_0 = _pod(20, "shop", "api-0", "api", "Deployment", "api")
API_1 = _pod(21, "shop", "api-1", "api", "Deployment", "api")
REDIS = _pod(30, "shop", "redis-0", "redis", "StatefulSet", "redis")
BATCH = _pod(40, "jobs", "batch-0", "batch", "CronJob", "")
DNS = _pod(53, "kube-system", "dns-0", "dns", "Deployment", "dns")
OUTSIDE = Host(
    name="laptop",
    kind="host",
    v4="192.0.2.10",
    v6="2001:db8:99::10",
    gateway=UPLINK_ADDRESSES,
    gateway_mac=UPLINK_MAC,
    prefix=(24, 64),
    mac="02:99:00:00:00:10",
)

HOSTS = (WEB, API_0, API_1, REDIS, BATCH, DNS, OUTSIDE)
PODS = tuple(host for host in HOSTS if host.kind == "pod")

HTTP_PORT = 80
API_PORT = 8080
REDIS_PORT = 6379
REFUSED_PORT = 6380
"""Nothing listens on it at redis-0."""
DNS_PORT = 53


def dns_records() -> list[tuple[str, tuple[str, ...]]]:
    """(name, addresses) that the demo's DNS knows. A service has the addresses of its pods."""
    records = [(f"{host.name}.{DOMAIN}", (host.v4, host.v6)) for host in HOSTS]
    records += [(f"{pod.service}.{DOMAIN}", (pod.v4, pod.v6)) for pod in PODS if pod.service]
    return [*records, (f"{PARTNER}.{DOMAIN}", (PARTNER_ADDRESS,))]
