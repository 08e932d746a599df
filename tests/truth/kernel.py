"""What the kernel counts by itself, and what our records say of the same time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tests.e2e.lab import V4, V6, Lab, Stack

ETHERNET = 14
"""Bytes of link header: our bytes hold it, nftables' and the TCP stack's do not."""

PORTS = range(7000, 7100)
"""Where the tests' servers listen, and where they do not."""

PODS = frozenset((*V4.values(), *V6.values()))


def proc_net(lab: Lab, pod: str) -> Counter[str]:
    """Every counter of /proc/net/snmp and /proc/net/netstat in a pod: {"Tcp.OutSegs": 3, ...}."""
    found: Counter[str] = Counter()
    for file in ("snmp", "netstat"):
        lines = lab.exec(pod, "cat", f"/proc/net/{file}").splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            group, *columns = names.split()
            for name, value in zip(columns, values.split()[1:], strict=True):
                found[group + name.removeprefix(":")] = int(value)
    return Counter({name.replace(":", "."): value for name, value in found.items()})


def change(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """after - before, zeros too (Counter's own difference drops what is not positive)."""
    return {name: after[name] - before[name] for name in after}


PROTOCOLS = {(4, "tcp"), (4, "udp"), (4, "icmp"), (6, "tcp"), (6, "udp"), (6, "icmpv6")}


def count_with_nftables(lab: Lab) -> None:
    """Have both pods count what they exchange, each by family, protocol and direction."""
    for pod, other in (("a", "b"), ("b", "a")):
        chains = []
        for hook, side in (("output", "daddr"), ("input", "saddr")):
            rules = [
                f"{'ip' if family == 4 else 'ip6'} {side} {V4[other] if family == 4 else V6[other]}"
                f' meta l4proto {name} counter comment "{hook} {family} {name}"'
                for family, name in sorted(PROTOCOLS)
            ]
            chains.append(
                f"chain {hook} {{\ntype filter hook {hook} priority -300\n"
                + "\n".join(rules)
                + "\n}\n"
            )
        lab.exec(pod, "nft", f"table inet truth {{\n{''.join(chains)}}}")


def counted(lab: Lab, pod: str, table: str = "truth") -> Counter[str]:
    """The counters of a pod's rules by comment: {"output 4 tcp packets": 7, "... bytes": 420}."""
    listed = json.loads(lab.exec(pod, "nft", "-j", "list", "table", "inet", table))
    found: Counter[str] = Counter()
    for entry in listed["nftables"]:
        rule = entry.get("rule", {})
        for part in rule.get("expr", ()):
            for unit in ("packets", "bytes") if "counter" in part else ():
                found[f"{rule['comment']} {unit}"] = part["counter"][unit]
    return found


def _family(row: Mapping[str, Any]) -> int:
    return 6 if ":" in row["src_ip"] else 4


def between_pods(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without neighbours' chatter (IPv6 multicast), which comes when it likes.

    Events of the stack come from the whole machine, so from other labs, too: only our ports.
    """
    return [
        r
        for r in rows
        if r["src_ip"] in PODS
        and r["dst_ip"] in PODS
        and ("interface" in r or r.get("dst_port") in PORTS)
    ]


def sums(rows: Iterable[Mapping[str, Any]], interface: str) -> Counter[str]:
    """Counters of the records of an interface, by family, protocol and sender.

    {"a 4 tcp packets": 7, "b 4 tcp bytes": 420, ...}: what pod a sent, what pod b sent.
    """
    pod = {address: name for table in (V4, V6) for name, address in table.items()}
    found: Counter[str] = Counter()
    for row in rows:
        if row.get("interface") != interface:
            continue
        for end, prefix in (("src", ""), ("dst", "reply_")):
            for unit in ("packets", "bytes"):
                key = f"{pod[row[f'{end}_ip']]} {_family(row)} {row['proto']} {unit}"
                found[key] += row[prefix + unit]
    return found


class Watch:
    """What counters and records say of what happens between its making and ``read``."""

    def __init__(self, lab: Lab, flowobs: Stack) -> None:
        self._lab, self._flowobs = lab, flowobs
        if not flowobs.settled():
            flowobs.settle()
        self._old = Counter(map(json.dumps, flowobs.rows()))
        self._without_room = flowobs.without_room()
        self._links, self._proc = self._now()

    def _now(self) -> tuple[dict[str, dict[str, int]], dict[str, Counter[str]]]:
        links = {link: self._lab.counters(link) for link in ("va", "vb")}
        return links, {pod: proc_net(self._lab, pod) for pod in "ab"}

    def read(self) -> None:
        self._flowobs.settle()
        links, proc = self._now()
        rows = self._flowobs.rows()
        assert len(rows) < 100_000, "the API gives no more at once"
        new = Counter(map(json.dumps, rows)) - self._old
        self.everything: list[dict[str, Any]] = [json.loads(row) for row in new.elements()]
        self.rows = between_pods(self.everything)
        self.without_room = self._flowobs.without_room() - self._without_room
        """Events that nobody could be told of; other labs', perhaps."""
        self.links = {name: change(self._links[name], links[name]) for name in links}
        """What the links of both pods moved: {"va": {"rx_packets": 3, ...}, ...}."""
        self.proc = {pod: Counter(change(self._proc[pod], proc[pod])) for pod in "ab"}
        """/proc/net/snmp and netstat of both pods."""

    def all_told(self, rows: Iterable[Mapping[str, Any]], number: int) -> bool:
        """Whether these events of the stack are so many, but for those that found no room."""
        told = sum(1 + row.get("lost", 0) for row in rows)
        print(f"{told} of {number} events told, {self.without_room} found no room")
        return number - self.without_room <= told <= number

    def select(self, **columns: str | int) -> list[dict[str, Any]]:
        """Records between the pods that have these values."""
        return [r for r in self.rows if all(r.get(c) == v for c, v in columns.items())]
