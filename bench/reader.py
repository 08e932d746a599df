"""CPU per event from ring bytes to records, and per flow from map entries to records.

Everything is compared with a bare numpy copy of the same bytes in the same run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import Figure
from flowobs.agent.decode import Decoder
from flowobs.agent.records import EVENT, FLOW, FLOW_KEY, RECORD_VERSION
from flowobs.agent.ring import SAMPLE, Layout, parse, pending
from flowobs.batch import Endpoints, Strings
from flowobs.schema import Kind, Protocol

EVENTS = 1_500
"""A ring's worth: what one reading finds at most."""
FLOWS = 10_000
_ROUNDS = 30
_OFFSET_NS = 1_700_000_000_000_000_000


def flow_keys(rows: int) -> NDArray[Any]:
    """Keys of as many TCP flows between a few hundred IPv4 addresses."""
    keys = np.zeros(rows, FLOW_KEY.dtype)
    number = np.arange(rows, dtype=np.uint32)
    for end, net in (("a", 10), ("b", 11)):
        keys[f"addr_{end}"][:, 10:12] = 0xFF
        keys[f"addr_{end}"][:, 12] = net
        keys[f"addr_{end}"][:, 14] = number % 200
    keys["port_a"], keys["port_b"] = 20_000 + number % 40_000, 443
    keys["ifindex"] = 2 + number % 20
    keys["proto"], keys["family"] = Protocol.tcp, 4
    keys["egress"] = number % 2
    return keys


def flows(rows: int) -> NDArray[Any]:
    """What as many flows did; every second was opened by b, every tenth has ended."""
    found = np.zeros(rows, FLOW.dtype)
    number = np.arange(rows)
    found["packets"], found["bytes"] = (5, 4), (500, 40_000)
    found["start_ns"] = number
    found["last_ns"] = number + 1_000_000
    found["initiator"] = number % 2
    found["fin"] = (number % 10 == 0)[:, None]
    found["closer"] = number % 10 == 0
    return found


def ring_bytes(rows: int) -> NDArray[np.uint8]:
    """A ring of perf records with open events, as the kernel writes them."""
    layout = Layout(EVENT.dtype)
    records = np.zeros(rows, layout.dtype)
    records["type"], records["size"], records["raw_size"] = SAMPLE, layout.size, layout.raw_size
    events = records["record"]
    events["version"], events["kind"] = RECORD_VERSION, Kind.open
    events["time_ns"] = np.arange(rows)
    events["key"] = flow_keys(rows)
    events["initiator"] = events["direction"] = np.arange(rows) % 2
    return records.view(np.uint8)


def run() -> list[Figure]:
    """CPU nanoseconds per event and per flow."""
    decoder = Decoder(Endpoints(Strings()), {})
    layout = Layout(EVENT.dtype)
    ring = ring_bytes(EVENTS)
    keys, counted = flow_keys(FLOWS), flows(FLOWS)
    size, half = len(ring), len(ring) // 2

    def read() -> NDArray[Any]:
        return parse(pending(ring, half, half + size), layout).records

    copy_ring = _cpu_ns(ring.copy) / EVENTS
    copy_flows = (_cpu_ns(keys.copy) + _cpu_ns(counted.copy)) / FLOWS
    read_ns = _cpu_ns(read) / EVENTS
    both_ns = _cpu_ns(lambda: decoder.events(read(), _OFFSET_NS)) / EVENTS
    flow_ns = _cpu_ns(lambda: decoder.flows(keys, counted, _OFFSET_NS)) / FLOWS
    return [
        _figure("ring: read", read_ns, "ns/event", copy_ring),
        _figure("ring: read and decode", both_ns, "ns/event", copy_ring),
        _figure("drain: decode of 10,000 flows", flow_ns, "ns/flow", copy_flows),
    ]


def main() -> None:
    for figure in run():
        if os.environ.get("JSON") == "1":
            print(json.dumps(figure))
        else:
            print("{metric:32} {value:8.1f} {unit:9} {ratio:6.1f} x {against}".format(**figure))


def _figure(metric: str, value: float, unit: str, copy: float) -> Figure:
    return {
        "bench": "reader",
        "metric": metric,
        "value": value,
        "unit": unit,
        "against": "numpy copy",
        "ratio": value / copy,
    }


def _cpu_ns(work: Callable[[], object]) -> float:
    """CPU nanoseconds of one call: the best of many, as other work on the machine only adds."""
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.thread_time_ns()
        for _ in range(5):
            work()
        best = min(best, (time.thread_time_ns() - began) / 5)
    return best


if __name__ == "__main__":
    main()
