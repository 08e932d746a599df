"""A node that routes and translates as kube-proxy does: nftables, and conntrack's own words."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from tests.e2e.lab import INVENTORY, MAC, V4, V6, Lab

CLUSTER = {4: "10.96.0.10", 6: "fd00:96::10"}
"""A ClusterIP: translated to pod b, which sees the client's address."""
SELF = {4: "10.96.0.11", 6: "fd00:96::11"}
"""Of a service whose only backend is pod a, the client itself, which is hidden then (hairpin)."""
NODE = {4: "10.99.0.254", 6: "fd00:99::fe"}
"""The node's address; its NODE_PORT leads to pod b, which sees the node's address."""
VIRTUAL_PORT, NODE_PORT, BACKEND_PORT = 80, 30080, 7000
ROUTER_MAC = "02:99:00:00:00:fe"

SERVICES = f"""\
services:
  - namespace: lab
    name: web
    addresses: [{CLUSTER[4]}, "{CLUSTER[6]}"]
  - namespace: lab
    name: self
    addresses: [{SELF[4]}, "{SELF[6]}"]
"""


class Translated(NamedTuple):
    """One connection, as both sides see it."""

    proto: str
    source: tuple[str, int]
    virtual: tuple[str, int]
    backend: tuple[str, int]
    snat: tuple[str, int]


class Router(Lab):
    """Pods with addresses of their own (/32, /128) behind a node that forwards and translates."""

    inventory = INVENTORY + SERVICES

    def __enter__(self) -> Router:
        super().__enter__()
        knobs = ["ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1"]
        knobs += [f"ipv4.conf.{link}.send_redirects=0" for link in ("all", "va", "vb")]
        self.exec("node", "sysctl", "-qw", *(f"net.{knob}" for knob in knobs))
        for pod in ("a", "b"):
            self.ip("node", f"link set v{pod} nomaster address {ROUTER_MAC}")
            self.ip(pod, "addr flush dev eth0")
            for version, mine, bits in ((4, V4[pod], 32), (6, V6[pod], 128)):
                self.ip("node", f"addr add {NODE[version]}/{bits} dev v{pod} nodad")
                self.ip("node", f"-{version} route add {mine}/{bits} dev v{pod}")
                self.ip("node", f"neigh replace {mine} lladdr {MAC[pod]} dev v{pod} nud permanent")
                self.ip(pod, f"addr add {mine}/{bits} dev eth0 nodad")
                gateway = f"{NODE[version]} lladdr {ROUTER_MAC}"
                self.ip(pod, f"neigh replace {gateway} dev eth0 nud permanent")
                self.ip(pod, f"-{version} route add {NODE[version]} dev eth0")
                self.ip(pod, f"-{version} route add default via {NODE[version]} src {mine}")
        self.exec("node", "nft", _rules())
        return self

    def conntrack(self) -> set[Translated]:
        """What ``conntrack -L`` lists of translated TCP and UDP."""
        found = set()
        for family in ("ipv4", "ipv6"):
            listed = self.exec("node", "conntrack", "-L", "--any-nat", "-f", family)
            for line in listed.splitlines():
                tuples = re.findall(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)", line)
                if tuples:  # ICMP has no ports
                    (src, dst, sport, dport), (back, seen, back_port, seen_port) = tuples
                    ends = ((src, sport), (dst, dport), (back, back_port), (seen, seen_port))
                    found.add(Translated(line.split()[0], *((ip, int(port)) for ip, port in ends)))
        return found


def _rules() -> str:
    pre, ports = [], "meta l4proto { tcp, udp } th dport"
    for version, ip, table in ((4, "ip", V4), (6, "ip6", V6)):
        a, b = (f"[{x}]" if version == 6 else x for x in (table["a"], table["b"]))
        hide = "meta mark set 0x4000"
        to_a, to_b = (f"dnat {ip} to {pod}:{BACKEND_PORT}" for pod in (a, b))
        pre += [
            f"{ip} daddr {CLUSTER[version]} {ports} {VIRTUAL_PORT} {to_b}",
            f"{ip} daddr {NODE[version]} {ports} {NODE_PORT} {hide} {to_b}",
            f"{ip} daddr {SELF[version]} {ports} {VIRTUAL_PORT} {hide} {to_a}",
        ]
    # ports of their own, so that nothing fits together by chance
    masquerade = "masquerade to :20000-29999"
    post = [f"meta mark 0x4000 meta l4proto {proto} {masquerade}" for proto in ("tcp", "udp")]
    chains = _chain("prerouting", -100, pre) + _chain("postrouting", 100, post)
    return f"table inet nat {{\n{chains}}}"


def _chain(hook: str, priority: int, rules: list[str]) -> str:
    kind = f"type nat hook {hook} priority {priority}"
    return f"chain {hook} {{\n" + "\n".join((kind, *rules)) + "\n}\n"


def told(row: dict[str, Any]) -> Translated:
    """The same of a record."""
    source, backend = (row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"])
    virtual = (row["virtual_ip"], row["virtual_port"]) if "virtual_ip" in row else backend
    snat = (row["snat_ip"], row["snat_port"]) if "snat_ip" in row else source
    return Translated(row["proto"], source, virtual, backend, snat)


def edges(answer: dict[str, Any]) -> set[tuple[str, str, str, int]]:
    """Source, destination, protocol and port of a map's edges."""
    return {(e["source"], e["destination"], e["proto"], e["port"]) for e in answer["edges"]}
