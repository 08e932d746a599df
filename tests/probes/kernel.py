"""Many packets through a tc program, fast, and what its maps hold afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowobs.agent import bpf
from flowobs.agent.loader import Probes
from flowobs.agent.records import CPU_STATS, FLOW, FLOW_KEY, LIMIT, STATS
from flowobs.agent.tallies import Tallies
from flowobs.schema import Kind

ENTRIES = 65536
FRAGMENTS = 4096
LIMITS = 8192
TC_ACT_UNSPEC = -1
Counts = dict[tuple[object, ...], list[int]]


def runs(packet: bytes) -> bool:
    """Whether BPF_PROG_TEST_RUN takes the packet: since 6.18 not where an IP header is cut short
    (behind a VLAN tag it still does).
    """
    least = {b"\x08\0": 34, b"\x86\xdd": 54}.get(packet[12:14], 15)
    return len(packet) >= least


class Counted(NamedTuple):
    """What a batch of packets left behind."""

    flows: Counts
    """(source, destination, sport, dport, vlan, icmp, proto, family, tunnel) of each direction:
    packets, bytes, TCP flags, tunnel id."""
    tunnels: dict[tuple[object, ...], tuple[bytes, bytes]]
    """The ends of the tunnel of each direction of a flow that is in one."""
    told: frozenset[tuple[object, ...]]
    """Flows that ICMP errors tell of, in the direction of their packets or the other one."""
    entries: int
    not_ip: tuple[int, int]
    unparsed: tuple[int, int]


class Runner:
    """``flow_ingress`` over batches of packets. Drained, so that a batch starts from nothing."""

    def __init__(self, probes: Probes) -> None:
        self.program = probes.programs["flow_ingress"]
        self._maps = probes.maps
        self._tallies = Tallies(probes.maps["tallies"])
        self._keys, self._flows = np.empty(ENTRIES, FLOW_KEY.dtype), np.empty(ENTRIES, FLOW.dtype)
        self._before = self._stats()

    def run(self, packets: Sequence[bytes], context: bytes = b"") -> Counted:
        """Every packet once, and what was counted."""
        self.send(packets, context)
        return self.collect()

    def send(self, packets: Sequence[bytes], context: bytes = b"") -> None:
        """Every packet once. Nothing may change it, and nothing may be decided about it."""
        verdicts, after = bpf.test_run_each(self.program, packets, context=context)
        assert (verdicts == TC_ACT_UNSPEC).all()
        assert after == b"".join(packets)

    def flows(self) -> np.ndarray:
        """The flow map's values since the last time."""
        flows = self._flows[: bpf.drain(self._maps["flows_0"], self._keys, self._flows)]
        self._tallies.add_to(flows)
        return flows

    def collect(self) -> Counted:
        """What was counted since the last time."""
        flows = self.flows()
        keys = self._keys[: len(flows)]
        keys_of, values = np.empty(FRAGMENTS, "V40"), np.empty(FRAGMENTS, "V8")
        bpf.drain(self._maps["fragments"], keys_of, values)
        limits = np.empty(LIMITS, FLOW_KEY.dtype), np.empty(LIMITS, LIMIT.dtype)
        errors = limits[0][: bpf.drain(self._maps["limits"], *limits)]
        assert (errors["tunnel"] == Kind.icmp_error).all()
        after = self._stats()
        not_ip, unparsed, full = (
            tuple((after[name] - self._before[name]).tolist())
            for name in ("STAT_NOT_IP", "STAT_UNPARSED", "STAT_MAP_FULL")
        )
        self._before = after
        assert full == (0, 0), "the batch is too large for the flow map"
        told = (way[:-1] for key in errors for way in ways(key))
        return Counted(
            directions(keys, flows),
            tunnels(keys, flows),
            frozenset(told),
            len(keys),
            not_ip,
            unparsed,
        )

    def _stats(self) -> dict[str, np.ndarray]:
        found = {}
        counts = bpf.lookup_percpu(self._maps["stats"], 0, CPU_STATS.dtype)["counts"]
        for name, (index, _) in STATS.items():
            values = counts[:, index]
            found[name] = np.array([values["packets"].sum(), values["bytes"].sum()])
        return found


def directions(keys: np.ndarray, flows: np.ndarray) -> Counts:
    """Each direction that had packets by itself, so that the order of a key's ends is no matter."""
    found: Counts = {}
    for key, flow in zip(keys, flows, strict=True):
        for way, name in enumerate(ways(key)):
            if flow["packets"][way]:
                assert name not in found, "a flow has two entries"
                counts = (flow[c][way] for c in ("packets", "bytes", "tcp_flags", "tunnel_id"))
                found[name] = [int(count) for count in counts]
    return found


def tunnels(keys: np.ndarray, flows: np.ndarray) -> dict[tuple[object, ...], tuple[bytes, bytes]]:
    """The tunnel's ends of each direction that had packets."""
    found = {}
    for at in np.flatnonzero(keys["tunnel"]):
        a, b = (words.tobytes() for words in flows["tunnel_ends"][at].reshape(2, 2))
        for way, (name, ends) in enumerate(zip(ways(keys[at]), ((a, b), (b, a)), strict=True)):
            if flows["packets"][at][way]:
                found[name] = ends
    return found


def ways(key: np.void) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """A flow's name from a to b, and from b to a."""
    a, b = key["addr_a"].tobytes(), key["addr_b"].tobytes()
    ports = int(key["port_a"]), int(key["port_b"])
    rest = tuple(int(key[name]) for name in ("vlan", "icmp", "proto", "family", "tunnel"))
    return (a, b, *ports, *rest), (b, a, *ports[::-1], *rest)
