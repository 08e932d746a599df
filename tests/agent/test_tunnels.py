"""Tunnels of flows are remembered by whole columns, and not for ever."""

from __future__ import annotations

import numpy as np

from flowobs.agent.records import FLOW, FLOW_KEY
from flowobs.agent.tunnels import Tunnels
from flowobs.schema import Tunnel


def drained(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Flows whose tunnel has their own number."""
    numbers = np.arange(start, stop)
    keys, flows = np.zeros(len(numbers), FLOW_KEY.dtype), np.zeros(len(numbers), FLOW.dtype)
    keys["port_a"], keys["tunnel"] = numbers, Tunnel.vxlan
    flows["tunnel_id"] = numbers[:, None]
    flows["tunnel_ends"] = numbers[:, None]
    return keys, flows


def test_each_flow_has_its_own() -> None:
    tunnels = Tunnels()
    keys, flows = drained(1, 5000)
    tunnels.learn(keys, flows)
    tunnels.learn(keys[::2], flows[::2])  # again, a drain later
    found = tunnels.of(keys)
    assert (found["tunnel_id"] == flows["tunnel_id"]).all()
    assert (found["tunnel_ends"] == flows["tunnel_ends"]).all()
    strange, _ = drained(5000, 5010)
    assert not tunnels.of(strange)["tunnel_id"].any()


def test_what_changes_is_taken_over() -> None:
    tunnels = Tunnels()
    keys, flows = drained(1, 3)
    tunnels.learn(keys, flows)
    flows["tunnel_ends"] += np.uint64(100)
    tunnels.learn(keys, flows)
    assert (tunnels.of(keys)["tunnel_ends"] == flows["tunnel_ends"]).all()


def test_more_flows_than_there_is_room_for_leave_the_newest() -> None:
    tunnels = Tunnels(capacity=100)
    for start in range(1, 1000, 60):
        keys, flows = drained(start, start + 60)
        tunnels.learn(keys, flows)
        assert (tunnels.of(keys)["tunnel_id"] == flows["tunnel_id"]).all()
    keys, flows = drained(1, 1000)
    tunnels.learn(keys, flows)
    assert (tunnels.of(keys)["tunnel_id"][-100:] == flows["tunnel_id"][-100:]).all()


def test_outside_of_tunnels_nothing_is_kept() -> None:
    tunnels = Tunnels()
    keys, flows = drained(1, 10)
    keys["tunnel"] = 0
    tunnels.learn(keys, flows)
    assert not tunnels.of(keys)["tunnel_id"].any()
