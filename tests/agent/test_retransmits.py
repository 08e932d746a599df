"""Which records get the segments that were sent again."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowobs.agent.records import FLOW_KEY, RETRANSMITS
from flowobs.agent.retransmits import Retransmits

HERE, POD, MOST = 4026531840, 4026532000, 100
NONE = np.zeros(0, FLOW_KEY.dtype), np.zeros(0, RETRANSMITS.dtype)


def keys(*ports: int, address: str = "0a000001", **place: int) -> Any:
    made = np.zeros(len(ports), FLOW_KEY.dtype)
    made["addr_a"] = np.frombuffer(bytes(10) + b"\xff\xff" + bytes.fromhex(address), "u1")
    made["port_a"], made["port_b"], made["proto"], made["family"] = ports, 80, 6, 4
    for name, value in place.items():
        made[name] = value
    return made


def counts(*segments: tuple[int, int]) -> Any:
    made = np.zeros(len(segments), RETRANSMITS.dtype)
    made["segments"] = segments
    return made


def test_every_observation_point_gets_them() -> None:
    again = Retransmits(HERE, MOST)
    again.begin(keys(7, 5, ifindex=POD), counts((2, 1), (9, 0)))
    flows = keys(5, 6, ifindex=3), keys(5, 7, ifindex=4, vlan=8, egress=1)
    assert [again.of(f).tolist() for f in flows] == [[[9, 0], [0, 0]], [[9, 0], [2, 1]]]


def test_they_are_given_once() -> None:
    again = Retransmits(HERE, MOST)
    again.begin(keys(5, ifindex=POD), counts((2, 1)))
    assert again.of(keys(5)).sum() == 3
    again.begin(*NONE)
    assert again.of(keys(5)).sum() == 0


def test_they_wait_for_a_packet_of_the_next_interval_and_add_up() -> None:
    again = Retransmits(HERE, MOST)
    again.begin(keys(5, ifindex=POD), counts((2, 1)))
    again.begin(keys(5, ifindex=POD), counts((1, 0)))
    assert again.of(keys(5)).tolist() == [[3, 1]]


def test_they_wait_for_a_flow_that_is_silent_but_not_for_ever() -> None:
    again = Retransmits(HERE, MOST)
    for drains, given in ((119, 3), (120, 0)):
        again.begin(keys(5, ifindex=POD), counts((2, 1)))
        for _ in range(drains):
            again.begin(*NONE)
            assert again.of(keys(6)).sum() == 0
        assert again.of(keys(5)).sum() == given
        again.begin(*NONE)


def test_what_waits_is_bounded() -> None:
    again = Retransmits(HERE, MOST)
    flows = keys(*range(1, 3 * MOST + 1))
    for drain in range(3):  # the first one's have waited longest
        part = flows[drain * MOST : (drain + 1) * MOST].copy()
        part["ifindex"] = POD
        again.begin(part, counts(*[(1, 0)] * MOST))
    assert again.of(flows).sum(axis=1).tolist() == [0] * MOST + [1] * 2 * MOST


def test_an_interface_whose_packet_came_after_the_drain_has_them_too() -> None:
    again = Retransmits(HERE, MOST)
    again.begin(keys(5, ifindex=POD), counts((2, 1)))
    assert again.of(keys(5, ifindex=3)).sum() == 3
    again.begin(keys(5, ifindex=POD), counts((7, 0)))
    assert again.of(keys(5, ifindex=3)).tolist() == [[7, 0]]
    assert again.of(keys(5, ifindex=4)).tolist() == [[9, 1]]
    again.begin(*NONE)
    assert again.of(keys(5, ifindex=3)).sum() == again.of(keys(5, ifindex=4)).sum() == 0
    assert again.of(keys(5, ifindex=5)).sum() == 7


def test_loopback_is_another_machine_in_another_namespace() -> None:
    again = Retransmits(HERE, MOST)
    again.begin(keys(5, 6, address="7f000001", ifindex=POD), counts((2, 0), (3, 0)))
    assert again.of(keys(5, 6, address="7f000001")).sum() == 0
    again.begin(keys(5, address="7f000001", ifindex=HERE), counts((2, 0)))
    assert again.of(keys(5, address="7f000001")).sum() == 2


def test_nothing_of_nothing() -> None:
    again = Retransmits(HERE, MOST)
    again.begin(*NONE)
    assert again.of(keys()).shape == (0, 2)
    assert again.of(keys(1, 2)).tolist() == [[0, 0], [0, 0]]
