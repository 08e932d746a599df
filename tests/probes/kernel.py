"""Many packets through a tc program, fast, and what its maps hold afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowobs.agent import bpf
from flowobs.agent.loader import Probes
from flowobs.agent.records import COUNT, FLOW, FLOW_KEY, STATS

ENTRIES = 65536
FRAGMENTS = 4096
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
    """(source, destination, sport, dport, vlan, icmp, proto, family) of each direction:
    packets, bytes, TCP flags."""
    entries: int
    not_ip: tuple[int, int]
    unparsed: tuple[int, int]


class Runner:
    """``flow_ingress`` over batches of packets. Drained, so that a batch starts from nothing."""

    def __init__(self, probes: Probes) -> None:
        self.program = probes.programs["flow_ingress"]
        self._maps = probes.maps
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
        return self._flows[: bpf.drain(self._maps["flows_0"], self._keys, self._flows)]

    def collect(self) -> Counted:
        """What was counted since the last time."""
        flows = self.flows()
        keys = self._keys[: len(flows)]
        keys_of, values = np.empty(FRAGMENTS, "V40"), np.empty(FRAGMENTS, "V8")
        bpf.drain(self._maps["fragments"], keys_of, values)
        after = self._stats()
        not_ip, unparsed, full = (
            tuple((after[name] - self._before[name]).tolist())
            for name in ("STAT_NOT_IP", "STAT_UNPARSED", "STAT_MAP_FULL")
        )
        self._before = after
        assert full == (0, 0), "the batch is too large for the flow map"
        assert not keys["pad"].any()
        return Counted(directions(keys, flows), len(keys), not_ip, unparsed)

    def _stats(self) -> dict[str, np.ndarray]:
        found = {}
        for name, (index, _) in STATS.items():
            values = bpf.lookup_percpu(self._maps["stats"], index, COUNT.dtype)
            found[name] = np.array([values["packets"].sum(), values["bytes"].sum()])
        return found


def directions(keys: np.ndarray, flows: np.ndarray) -> Counts:
    """Each direction that had packets by itself, so that the order of a key's ends is no matter."""
    found: Counts = {}
    for key, flow in zip(keys, flows, strict=True):
        a, b = key["addr_a"].tobytes(), key["addr_b"].tobytes()
        ports = int(key["port_a"]), int(key["port_b"])
        rest = tuple(int(key[name]) for name in ("vlan", "icmp", "proto", "family"))
        for way, ends in enumerate(((a, b, *ports), (b, a, *ports[::-1]))):
            if flow["packets"][way]:
                assert (*ends, *rest) not in found, "a flow has two entries"
                counts = (flow[name][way] for name in ("packets", "bytes", "tcp_flags"))
                found[(*ends, *rest)] = [int(count) for count in counts]
    return found
