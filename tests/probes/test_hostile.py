"""Broken, lying and strange packets: the parser reads what an independent one reads, counts every
packet once, never writes to one, and never decides about one.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.probes import oracle, tap
from tests.probes.corpus import CORPUS, mutated, truncated
from tests.probes.kernel import FRAGMENTS, Counted, Counts, Runner, runs
from tests.probes.oracle import NOT_IP, TAGS, UNPARSED

pytestmark = [pytest.mark.root, pytest.mark.bpf]

SEED = 20261122
BATCH = 32768
SEGMENT = 100


def expected(packets: Iterable[bytes], *, gso_size: int = 0, received: bool = False) -> Counted:
    """``received``: by a real interface. Then the kernel has taken the outer VLAN tag out of a
    packet before we see it, and a flow both of whose ends are on that side is two (a hairpin).
    """
    flows: Counts = {}
    told: set[tuple[object, ...]] = set()
    tunnels: dict[tuple[object, ...], tuple[bytes, bytes]] = {}
    others = {NOT_IP: [0, 0], UNPARSED: [0, 0]}
    entries: dict[object, tuple[tuple[bytes, int], tuple[bytes, bytes] | None]] = {}
    firsts: oracle.Firsts = {}
    for packet in packets:
        tagged = received and int.from_bytes(packet[12:14], "big") in TAGS
        tags = 3 if tagged else 2
        answer, _ = oracle.read(packet, tags, firsts)
        if quote := oracle.quoted(packet, answer, firsts):
            ends = quote.source, quote.destination, quote.sport, quote.dport
            # at any time there is one entry for both directions
            told |= {quote.flow[:-1], (*ends[1::-1], *ends[:1:-1], *quote.flow[4:-1])}
        count, size = 1, len(packet) - (4 if tagged else 0)
        if isinstance(answer, str):
            others[answer][0] += 1
            others[answer][1] += size
            continue
        if gso_size and size > answer.headers:
            count = -(-(size - answer.headers) // gso_size)
            size += (count - 1) * answer.headers
        flow = flows.setdefault(answer.flow, [0, 0, 0, answer.tunnel_id])
        flow[0] += count
        flow[1] += size
        flow[2] |= answer.tcp_flags
        ends = frozenset(((answer.source, answer.sport), (answer.destination, answer.dport)))
        entry = (ends, answer.flow[4:], answer.flow if received else None)
        sender = answer.source, answer.sport
        first = entries.setdefault(entry, (sender, answer.outer))
        if first[1]:  # its first packet says which ends the tunnel has
            same = first[0] == sender
            tunnels[answer.flow] = first[1] if same else (first[1][1], first[1][0])
    assert len(firsts) < FRAGMENTS - 512, "the kernel would forget first fragments"
    not_ip, unparsed = tuple(others[NOT_IP]), tuple(others[UNPARSED])
    return Counted(flows, tunnels, frozenset(told), len(entries), not_ip, unparsed)


def compare(runner: Runner, packets: Sequence[bytes], gso_size: int = 0) -> None:
    """All of them at once; where that differs, one by one to find a packet to show."""
    # struct __sk_buff, linux/bpf.h
    context = struct.pack("176xI12x", gso_size) if gso_size else b""
    found, want = runner.run(packets, context), expected(packets, gso_size=gso_size)
    if found != want:
        for packet in packets:
            one, should = runner.run([packet], context), expected([packet], gso_size=gso_size)
            assert one == should, packet.hex()
        raise AssertionError(f"only together: found {found}\nnot {want}")


def test_good_packets(runner: Runner) -> None:
    compare(runner, CORPUS)


def test_cut_at_every_length(runner: Runner) -> None:
    compare(runner, list(filter(runs, truncated())))


@pytest.mark.slow
def test_a_million_spoiled_packets(runner: Runner) -> None:
    packets = filter(runs, mutated(SEED))
    for _ in range(0, 1_000_000, BATCH):
        compare(runner, list(itertools.islice(packets, BATCH)))


def test_segments_of_spoiled_packets(runner: Runner) -> None:
    packets = [*CORPUS, *itertools.islice(filter(runs, mutated(SEED + 1)), 20_000)]
    compare(runner, packets, gso_size=SEGMENT)


edits = st.lists(st.tuples(st.integers(12, 110), st.integers(0, 255)), max_size=8)


@given(st.sampled_from(CORPUS), edits, st.integers(0, 90), st.binary(max_size=60))
@settings(max_examples=1000, deadline=None)
def test_any_packet(
    runner: Runner, good: bytes, changes: list[tuple[int, int]], cut: int, tail: bytes
) -> None:
    packet = bytearray(good[: max(15, len(good) - cut)])
    for at, value in changes:
        packet[at : at + 1] = bytes((value,))
    if runs(made := bytes(packet + tail)):
        compare(runner, [made])


@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="this machine has no tap devices")
def test_spoiled_packets_by_a_real_interface(runner: Runner) -> None:
    # the kernel itself drops what is cut short within the outer tag
    packets = [
        packet
        for packet in (*truncated(), *itertools.islice(mutated(SEED + 2), 30_000))
        if int.from_bytes(packet[12:14], "big") not in TAGS or len(packet) >= 20
    ]
    tap.receive(runner.program, packets)
    assert runner.collect() == expected(packets, received=True)
