"""A flow's first packet tells of its opening, whether or not the kernel can remember it."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

import flowobs
from bench.kernel import packet
from flowobs.agent import bpf
from flowobs.agent.bpf._lib import check, lib
from flowobs.agent.drain import Counters
from flowobs.agent.records import CONN, EVENT, FLOW_KEY
from flowobs.agent.ring import RingReader
from flowobs.schema import Kind

pytestmark = [pytest.mark.root, pytest.mark.bpf]

OBJECT = Path(flowobs.__file__).parents[1] / "probes" / "build" / "flow.bpf.o"
BPF_MAP_TYPE_HASH = 1
SYN = 0x02


def test_an_opening_is_told_where_nothing_remembers_it() -> None:
    """``conns`` is a map that says no: it has room for one."""
    sizes = FLOW_KEY.dtype.itemsize, CONN.dtype.itemsize
    conns = check(lib().bpf_map_create(BPF_MAP_TYPE_HASH, b"conns", *sizes, 1, None), "no map")
    with bpf.BpfObject(OBJECT) as made:
        made.select(["flow_ingress"])
        made.share("conns", conns)
        made.load()
        program, maps = (
            made.program_fd("flow_ingress"),
            {name: made.map_fd(name) for name in ("events", "stats", "overflow")},
        )
    counters = Counters(maps["stats"], maps["overflow"])
    with closing(RingReader(maps["events"], EVENT.dtype)) as ring:
        for flow in range(3):
            bpf.test_run(program, packet(flow, flags=SYN))
        told = [kind for events in ring.read() for kind in events["kind"].tolist()]
    assert told == [Kind.open] * 3
    assert counters.read().stats["forgotten"][0] == 2
    for fd in (conns, program, *maps.values()):
        os.close(fd)
