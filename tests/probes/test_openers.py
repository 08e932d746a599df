"""Who opened a flow is remembered for events without interface, in a table that never fills."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from bench.kernel import packet
from flowobs.agent import bpf
from flowobs.agent.features import REQUIRED
from flowobs.agent.loader import Probes, load

pytestmark = [pytest.mark.root, pytest.mark.bpf]

WAY = np.dtype(
    [(n, "<u4") for n in ("tag", "seen", "opened")]
    + [("ifindex", "<u4", 2), ("vlan", "<u2", 2), ("egress", "u1", 2), ("tunnel", "u1", 2)]
    + [("initiator", "u1"), ("pad", "V3")]
)
"""struct opener."""
WAYS = 4


@pytest.fixture
def probes() -> Iterator[Probes]:
    with load("core", only=REQUIRED) as loaded:
        yield loaded


def told(probes: Probes) -> np.ndarray:
    """All entries, shape (places, ways)."""
    fd = probes.maps["openers"]
    info = bpf.map_info(fd)
    keys = np.empty(info.max_entries, np.uint32)
    assert info.value_size == WAYS * WAY.itemsize
    values = np.zeros((info.max_entries, WAYS), WAY)
    assert bpf.read_batch(fd, keys, values) == info.max_entries
    return values


def open_flows(probes: Probes, flows: range) -> None:
    for flow in flows:
        bpf.test_run(probes.programs["flow_ingress"], packet(flow, 4, flags=0x02))


def test_ten_thousand_flows_have_their_place(probes: Probes) -> None:
    open_flows(probes, range(10_000))
    tags = told(probes)["tag"]
    assert np.count_nonzero(tags) > 9_980


def test_more_than_there_is_room_for_leaves_the_newest(probes: Probes) -> None:
    open_flows(probes, range(1))
    first = told(probes)
    (place,), (way,) = np.nonzero(first["tag"])
    assert first[place, way]["initiator"] == 0  # 10.0.0.1 asked 10.1.0.1: a is the lower one
    bpf.test_run(probes.programs["flow_ingress"], packet(0, 4, flags=0x12, reply=1))
    assert np.count_nonzero(told(probes)["tag"]) == 1, "both directions are one flow"
    open_flows(probes, range(1, 60_000))
    tags = told(probes)["tag"]
    assert tags.size >= np.count_nonzero(tags) > 45_000
