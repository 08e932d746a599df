"""Who opened a flow is remembered for events without interface, in a table that never fills."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest

from bench.kernel import packet
from flowobs.agent import bpf, netns
from flowobs.agent.features import REQUIRED
from flowobs.agent.loader import Probes, load
from tests.agent.netlab import NetLab

pytestmark = [pytest.mark.root, pytest.mark.bpf]

WAY = np.dtype(
    [(n, "<u4") for n in ("tag", "seen", "opened")]
    + [("ifindex", "<u4", 2), ("vlan", "<u2", 2), ("egress", "u1", 2), ("tunnel", "u1", 2)]
    + [("initiator", "u1"), ("error", "u1"), ("pad", "V2")]
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


def test_the_first_and_the_last_interface_of_an_opening(probes: Probes) -> None:
    """Those next to the connection's ends, whatever is between them, and whoever answers."""
    syn, ack = 0x02, 0x10

    def pass_by(ifindex: int, program: str, flow: int, flags: int) -> None:
        context = struct.pack("40xI", ifindex)  # struct __sk_buff
        bpf.test_run(probes.programs[program], packet(flow, 4, flags=flags), context=context)

    with NetLab() as lab:
        lab.ip("link add w0 type veth peer name w1")
        links = json.loads(lab.ip("-j link show"))
        index = {link["ifname"]: link["ifindex"] for link in links}

        def connect(flow: int) -> bool:
            """False where it took so long that it was another connection."""
            began = time.monotonic()
            pass_by(index["v0"], "flow_ingress", flow, syn)
            pass_by(index["w0"], "flow_ingress", flow, syn)
            pass_by(index["w1"], "flow_egress", flow, syn)
            took = time.monotonic() - began
            pass_by(index["w0"], "flow_ingress", flow, ack)
            return took < 0.9

        flows = iter(range(10))
        while not netns.call(lab.path, lambda: connect(next(flows))):
            pass
        ways = told(probes)
        newest = ways[ways["tag"] != 0]
        (way,) = newest[newest["opened"] == newest["opened"].max()]
    assert way["ifindex"].tolist() == [index["v0"], index["w1"]]
    assert way["egress"].tolist() == [0, 1]
    assert way["initiator"] == 0
