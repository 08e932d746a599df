from __future__ import annotations

import random
import struct

import pytest

from flowobs.demo import clients


def checksum(data: bytes) -> int:
    """RFC 1071, over a packet whose own checksum is right: 0."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@pytest.mark.parametrize("sequence", [0, 1, 0xFFFF])
def test_echo_request_has_a_right_checksum(sequence: int) -> None:
    packet = clients.echo_request(8, sequence)

    assert packet[:2] == b"\x08\0"
    assert struct.unpack_from("!H", packet, 6) == (sequence,)
    assert checksum(packet) == 0


@pytest.mark.parametrize("role", sorted(clients.ROLES))
def test_a_role_has_actions_and_a_bounded_rate(role: str) -> None:
    actions, rate = clients.ROLES[role]

    assert all(weight > 0 and callable(step) for weight, step in actions(random.Random(1)))
    assert 0 < rate <= 10
