"""The rules by which we read a packet otherwise than dpkt: complete, and none too many."""

from __future__ import annotations

import itertools

import pytest

from tests.probes import oracle
from tests.probes.corpus import CORPUS, mutated, truncated
from tests.probes.oracle import RULES, Reading

PACKETS = (*CORPUS, *truncated(), *itertools.islice(mutated(7), 30_000))


def same(packet: bytes) -> bool:
    """Whether dpkt by itself reads what we read."""
    ours, theirs = oracle.read(packet)[0], oracle.alone(packet)
    if isinstance(ours, Reading) and isinstance(theirs, Reading):
        return (*ours.flow, ours.tcp_flags) == (*theirs.flow, theirs.tcp_flags)
    return ours == theirs


def test_where_no_rule_applies_dpkt_says_the_same() -> None:
    plain = [packet for packet in PACKETS if not oracle.read(packet)[1]]
    assert len(plain) > len(PACKETS) / 2
    assert [packet.hex() for packet in plain if not same(packet)] == []


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_needed(rule: str) -> None:
    alone = (packet for packet in PACKETS if oracle.read(packet)[1] == {rule})
    assert not all(map(same, alone))
