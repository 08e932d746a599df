"""Packets and bytes of every protocol equal nftables' counters and the links' own, to the last."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from tests.e2e.lab import V4, V6, Lab, Stack
from tests.truth.conftest import TALK
from tests.truth.kernel import ETHERNET, Watch, change, counted, sums

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]

ROUNDS, SIZE = 3, 300


@pytest.mark.parametrize("flows", [1, 1000])
def test_every_packet_and_byte(running: tuple[Lab, Stack], flows: int) -> None:
    lab, flowobs = running
    # UDP opens by silence only: a port that was used within a minute goes on with its conversation
    older = {(r["src_ip"], r["src_port"]) for r in flowobs.rows(kind="open", proto="udp")}
    watch = Watch(lab, flowobs)
    before = {pod: counted(lab, pod) for pod in "ab"}
    for address in (V4["b"], V6["b"]):
        for kind in ("tcp", "udp", "icmp"):
            # the port; echo identifiers start with it, too, none of which may be used twice
            number = str(7000 + flows if kind == "icmp" else 7000)
            words = (kind, address, number, str(flows), str(ROUNDS), str(SIZE))
            lab.exec("a", sys.executable, TALK, *words)
    watch.read()

    for pod, other, link in (("a", "b", "va"), ("b", "a", "vb")):
        nft = change(before[pod], counted(lab, pod))
        truth = Counter[str]()
        for name, value in nft.items():
            hook, rest = name.split(maxsplit=1)
            protocol, unit = rest.rsplit(maxsplit=1)
            packets = nft[f"{hook} {protocol} packets"]
            assert packets >= ROUNDS * flows, name
            link_headers = ETHERNET * packets if unit == "bytes" else 0
            truth[f"{pod if hook == 'output' else other} {protocol} {unit}"] = value + link_headers
        assert sums(watch.rows, link) == truth

        for unit in ("packets", "bytes"):
            seen = [
                r[unit] + r[f"reply_{unit}"] for r in watch.everything if r.get("interface") == link
            ]
            moved = watch.links[link]
            assert sum(seen) == moved[f"rx_{unit}"] + moved[f"tx_{unit}"]

    for protocol, families in (("tcp", 2), ("udp", 2), ("icmp", 1), ("icmpv6", 1)):
        for reporter in ("source", "destination"):
            opens = watch.select(kind="open", proto=protocol, reporter=reporter)
            told = watch.select(kind="update", proto=protocol, reporter=reporter)
            opened = {(r["src_ip"], r.get("src_port")) for r in opens}
            assert len(opened) == len(opens)
            on = (
                {(r["src_ip"], r["src_port"]) for r in told} & older if protocol == "udp" else set()
            )
            assert len(opens) == families * flows - len(on - opened)
            assert {r["src_ip"] for r in opens} <= {V4["a"], V6["a"]}
