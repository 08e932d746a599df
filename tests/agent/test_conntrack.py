"""Translations as the running kernel tells of them, in namespaces of our own."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from flowobs.agent import netns
from flowobs.agent.conntrack import Conntrack
from flowobs.agent.metrics import Metrics
from flowobs.agent.nat import Nat, why_not
from flowobs.agent.netlink import DumpInterrupted
from flowobs.agent.translations import TRANSLATED
from flowobs.batch import Endpoints, FlowBatch, Strings
from flowobs.rows import ip_text
from flowobs.schema import Kind, Protocol
from tests.agent.netlab import FAR, NEAR, NetLab, sh
from tests.identity.fakes import ip

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

VIRTUAL = "10.96.0.1"


@pytest.fixture
def lab() -> Iterator[NetLab]:
    """``near`` asks for 10.96.0.1:80 and reaches port 9 of ``far``."""
    with NetLab() as made:
        made.ip(f"route add {VIRTUAL} via {FAR}")
        rule = f"ip daddr {VIRTUAL} udp dport 80 dnat to {FAR}:9"
        chain = f"chain o {{ type nat hook output priority -100; {rule}; }};"
        sh(f"ip netns exec {made.near} nft 'table ip t {{ {chain} }};'")
        yield made


def send(lab: NetLab, address: str, port: int, count: int = 1) -> None:
    def work() -> None:
        for i in range(count):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("", 40000 + i))
                sock.sendto(b"x", (address, port))

    netns.call(lab.path, work)


def ends(row: Any) -> list[tuple[str, int]]:
    """Source, virtual, backend, snat; the source's port as 0."""
    own = int(row["source"]["port"])
    found = []
    for name in ("source", "virtual", "backend", "snat"):
        port = int(row[name]["port"])
        found.append((ip_text(row[name]["ip"].tobytes()), 0 if port == own else port))
    return found


DNAT = [(NEAR, 0), (VIRTUAL, 80), (FAR, 9), (NEAR, 0)]


def test_what_was_there_what_comes_and_what_goes(lab: NetLab) -> None:
    send(lab, VIRTUAL, 80)
    conntrack = Conntrack(lab.path)
    conntrack.open()
    (listed,) = conntrack.list()
    assert [ends(row) for row in listed] == [DNAT]
    send(lab, VIRTUAL, 80, 2)  # one of them was there before
    sh(f"ip netns exec {lab.near} conntrack -D -p udp")
    changes = conntrack.read()
    came = changes.translations[~changes.gone]
    assert [ends(row) for row in came] == [DNAT]
    # what is older than our socket may end without a word
    assert came.tobytes() in changes.translations[changes.gone].tobytes()
    assert not len(conntrack.read().translations)
    assert conntrack.unreadable == 0
    conntrack.close()


def test_the_kernel_holds_back_what_is_not_translated(lab: NetLab) -> None:
    conntrack = Conntrack(lab.path)
    conntrack.open()
    send(lab, FAR, 9, 50)
    assert not conntrack._rows.any(), "fresh: nothing was ever read"
    conntrack.read()
    assert not conntrack._rows.any()
    send(lab, VIRTUAL, 80)
    assert len(conntrack.read().translations) == 1
    conntrack.close()


def test_a_shape_that_is_not_known_is_counted() -> None:
    conntrack = Conntrack(None)
    rows, found = conntrack._parse(np.full((3, 176), 0xEE, np.uint8))
    assert not len(rows) and not len(found)
    assert conntrack.unreadable == 3


def test_events_that_are_left_out_make_it_list_again(lab: NetLab) -> None:
    metrics = Metrics(CollectorRegistry())
    nat = Nat(Conntrack(lab.path, receive_buffer_bytes=1), metrics)
    nat.start()
    assert metrics.registry.get_sample_value("flowobs_agent_nat_translations") == 0
    send(lab, VIRTUAL, 80, 200)
    nat._listed = -np.inf  # as if it were seconds later
    nat.poll()
    nat._listed = -np.inf
    nat.poll()
    assert metrics.nat_overruns._value.get() == 1
    assert metrics.registry.get_sample_value("flowobs_agent_nat_translations") == 200
    nat.stop()


@pytest.mark.parametrize("when", ["in time", "too late"])
def test_the_first_opening_waits_for_its_translation(
    lab: NetLab, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Nothing is known of the address: its packet is still on its way through the stack."""
    metrics = Metrics(CollectorRegistry())
    nat = Nat(Conntrack(lab.path), metrics)
    nat.start()
    batch = FlowBatch.zeros(1, Endpoints(Strings()), shared=TRANSLATED[4:])
    columns = batch.columns
    for side, address, port in (("src", NEAR, 40000), ("dst", VIRTUAL, 80)):
        columns[f"{side}_ip"][0] = np.frombuffer(ip(address), np.uint8)
        columns[f"{side}_port"][0] = port
    columns["proto"][0], columns["kind"][0] = Protocol.udp, Kind.open
    columns["time"][0] = time.time_ns()
    waits: list[float] = []

    def meanwhile(seconds: float) -> None:
        waits.append(seconds)
        if when == "in time":
            send(lab, VIRTUAL, 80)

    monkeypatch.setattr("flowobs.agent.nat.time.sleep", meanwhile)
    nat.translate(batch)
    assert len(waits) == 1 and waits[0] < 0.01
    told = ip_text(batch["dst_ip"][0].tobytes()), batch["dst_port"][0]
    assert told == ((FAR, 9) if when == "in time" else (VIRTUAL, 80))
    send(lab, VIRTUAL, 80)
    nat.poll()
    assert metrics.nat_unresolved._value.get() == (when == "too late")
    columns["src_port"][0] += 1
    nat.translate(batch)
    assert len(waits) == 1, "not for each batch of many"
    nat._waited = -np.inf
    columns["time"][0] -= 10**9
    nat.translate(batch)
    assert len(waits) == 1, "what is older does not wait"
    nat.stop()


def test_what_ended_unheard_holds_no_longer(lab: NetLab) -> None:
    send(lab, VIRTUAL, 80, 5)
    nat = Nat(Conntrack(lab.path), Metrics(CollectorRegistry()))
    nat.start()
    sh(f"ip netns exec {lab.near} conntrack -D -p udp")
    nat.poll()
    nat._listed = -np.inf
    nat.poll()
    assert len(nat._known) == 10
    known = nat._known._end_ns[:10]
    assert (known < np.iinfo(np.int64).max).all()
    nat.stop()


def test_it_says_why_not(lab: NetLab) -> None:
    assert why_not(Conntrack(lab.path)) == ""
    sh(f"ip netns exec {lab.near} sysctl -qw net.netfilter.nf_conntrack_events=0")
    assert why_not(Conntrack(lab.path)) == (
        "no news of translations: events are off: write 2 to"
        " /proc/sys/net/netfilter/nf_conntrack_events"
    )
    metrics = Metrics(CollectorRegistry())
    nat = Nat(Conntrack(lab.path), metrics)
    nat.start()
    assert nat.missing == why_not(Conntrack(lab.path))
    assert metrics.nat_available._value.get() == 0
    nat.poll()  # does nothing, and does no harm
    nat.stop()


def test_a_list_that_is_refused_ends_it_and_one_that_is_cut_short_does_not(lab: NetLab) -> None:
    class Refusing(Conntrack):
        error = DumpInterrupted(errno.EAGAIN, "again")

        def list(self) -> Iterator[Any]:
            raise self.error

    conntrack = Refusing(lab.path)
    nat = Nat(conntrack, Metrics(CollectorRegistry()))
    nat.start()
    assert not nat.missing
    conntrack.error = PermissionError(errno.EPERM, "Operation not permitted")
    nat._listed = -np.inf
    nat.poll()
    assert nat.missing.endswith("Operation not permitted: it needs CAP_NET_ADMIN")
    nat.poll()
    nat.stop()


def test_a_kernel_without_it() -> None:
    class Without(Conntrack):
        def open(self) -> None:
            raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    assert why_not(Without(None)) == (
        "no news of translations: Protocol not supported: load the module nf_conntrack_netlink"
    )
