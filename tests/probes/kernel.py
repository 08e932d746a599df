"""Many packets through a tc program, fast, and what its maps hold afterwards."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowobs.agent import bpf
from flowobs.agent.bpf._lib import lib
from flowobs.agent.bpf.programs import _TestRun
from flowobs.agent.loader import Probes
from flowobs.agent.records import COUNT, FLOW, FLOW_KEY, STATS

ENTRIES = 65536
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
        """Every packet once. Nothing may change it, and nothing may be decided about it."""
        data = np.frombuffer(b"".join(packets), np.uint8)
        out = np.zeros_like(data)
        head = ctypes.create_string_buffer(context, len(context)) if context else None
        options = _TestRun(
            sz=ctypes.sizeof(_TestRun),
            ctx_in=ctypes.cast(head, ctypes.c_void_p) if head else None,
            ctx_size_in=len(context),
            repeat=1,
        )
        call, reference = lib().bpf_prog_test_run_opts, ctypes.byref(options)
        source, target = data.ctypes.data, out.ctypes.data
        for packet in packets:
            size = len(packet)
            options.data_in, options.data_size_in = source, size
            options.data_out, options.data_size_out = target, size
            error = call(self.program, reference)
            if error or options.retval != 0xFFFFFFFF or options.data_size_out != size:
                raise AssertionError(
                    f"error {error}, verdict {options.retval:#x}, {size} bytes became"
                    f" {options.data_size_out}: {packet.hex()}"
                )
            source += size
            target += size
        assert np.array_equal(data, out), "a program must not write to a packet"
        return self.collect()

    def collect(self) -> Counted:
        """What was counted since the last time."""
        entries = bpf.drain(self._maps["flows_0"], self._keys, self._flows)
        keys, flows = self._keys[:entries], self._flows[:entries]
        after = self._stats()
        not_ip, unparsed, full = (
            tuple((after[name] - self._before[name]).tolist())
            for name in ("STAT_NOT_IP", "STAT_UNPARSED", "STAT_MAP_FULL")
        )
        self._before = after
        assert full == (0, 0), "the batch is too large for the flow map"
        assert not keys["pad"].any()
        return Counted(directions(keys, flows), entries, not_ip, unparsed)

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
