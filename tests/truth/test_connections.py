"""Connections, resets, retransmits and drops: as many as the kernel's own counters say."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.lab import V4, V6, Lab, Stack
from tests.truth.conftest import TALK
from tests.truth.kernel import Watch, counted

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]

GOOD, REFUSED, ABORTED, SILENT = 30, 4, 6, 3  # connections of each family


@contextmanager
def rules(lab: Lab, pod: str, hook: str, *lines: str) -> Iterator[None]:
    """nftables rules in a pod for the time of a block; their counters: counted(..., "rules")."""
    chain = f"type filter hook {hook} priority 0\n" + "\n".join(lines)
    lab.exec(pod, "nft", f"table inet rules {{\nchain {hook} {{\n{chain}\n}}\n}}")
    try:
        yield
    finally:
        lab.exec(pod, "nft", "delete table inet rules")


def test_connections_end_as_the_kernel_says(running: tuple[Lab, Stack]) -> None:
    """ActiveOpens, PassiveOpens, AttemptFails, EstabResets, OutRsts, and who did what."""
    lab, flowobs = running
    lab.exec("a", "sysctl", "-qw", "net.ipv4.tcp_syn_retries=1")
    watch = Watch(lab, flowobs)
    with rules(lab, "b", "input", 'tcp dport 7004 counter drop comment "silent"'):
        for address in (V4["b"], V6["b"]):
            talk = (sys.executable, TALK)
            lab.exec("a", *talk, "tcp", address, "7000", str(GOOD), "1", "100")
            lab.exec("a", *talk, "abort", address, "7000", str(ABORTED))
            for _ in range(REFUSED):
                lab.exec("a", *talk, "tcp", address, "7003", "1", "1", "100", check=False)
        silent = [
            lab.start("a", *talk, "tcp", address, "7004", "1", "1", "100")
            for address in (V4["b"], V6["b"])
            for _ in range(SILENT)
        ]
        for process in silent:
            process.communicate(timeout=60)
        dropped = counted(lab, "b", "rules")["silent packets"]
    watch.read()
    a, b = watch.proc["a"], watch.proc["b"]

    for reporter in ("source", "destination"):
        assert len(watch.select(kind="open", reporter=reporter)) == a["Tcp.ActiveOpens"]
    assert a["Tcp.ActiveOpens"] == 2 * (GOOD + REFUSED + ABORTED + SILENT)
    assert b["Tcp.PassiveOpens"] == 2 * (GOOD + ABORTED)

    ends = Counter(r["close_reason"] for r in watch.select(kind="close", reporter="source"))
    assert ends == {
        "fin_source": b["Tcp.PassiveOpens"] - b["Tcp.EstabResets"],
        "reset_source": a["Tcp.EstabResets"],
        "reset_destination": 2 * REFUSED,
    }
    assert a["Tcp.EstabResets"] == b["Tcp.EstabResets"] == 2 * ABORTED

    assert {r["close_reason"] for r in watch.select(kind="fail")} == {"refused", "timeout"}
    for reason, number in (("refused", 2 * REFUSED), ("timeout", 2 * SILENT)):
        assert watch.all_told(watch.select(kind="fail", close_reason=reason), number)
    assert a["Tcp.AttemptFails"] == 2 * (REFUSED + SILENT)

    assert a["Tcp.OutRsts"] == 2 * ABORTED and b["Tcp.OutRsts"] == 2 * REFUSED
    # both ends tell of each: the one that sent it, and the one that it was for
    resets = watch.select(kind="reset")
    for pod, reply in ((a, False), (b, True)):
        sent = [r for r in resets if r.get("reply", False) == reply]
        assert watch.all_told(sent, 2 * pod["Tcp.OutRsts"])

    assert watch.all_told(watch.select(kind="retransmit", dst_port=7004), a["Tcp.RetransSegs"])
    assert a["Tcp.RetransSegs"] == a["TcpExt.TCPSynRetrans"]
    assert dropped == 2 * SILENT + a["Tcp.RetransSegs"]
    lost = watch.select(kind="drop", drop_reason="NETFILTER_DROP")
    assert {r["dst_port"] for r in lost} == {7004} and watch.all_told(lost, dropped)


def test_retransmits(running: tuple[Lab, Stack]) -> None:
    """Every tenth segment with data is thrown away before it reaches the server."""
    lab, flowobs = running
    watch = Watch(lab, flowobs)
    tenth = "tcp dport 7000 meta length > 300 numgen inc mod 10 == 0"
    with rules(lab, "b", "input", f'{tenth} counter drop comment "tenth"'):
        for address in (V4["b"], V6["b"]):
            words = ("tcp", address, "7000", "20", "5", "400")
            lab.exec("a", sys.executable, TALK, *words)
        dropped = counted(lab, "b", "rules")["tenth packets"]
    watch.read()
    again = watch.select(kind="retransmit")
    assert dropped >= 20
    assert watch.proc["a"]["Tcp.RetransSegs"] >= dropped
    # b sends again, too, where the machine stands still for a fifth of a second
    for pod, reply, counter in (("a", 0, "retransmits"), ("b", 1, "reply_retransmits")):
        sent = watch.proc[pod]["Tcp.RetransSegs"]
        told = [r for r in again if r.get("reply", 0) == reply]
        assert watch.all_told(told, sent)
        for reporter in ("source", "destination"):  # what is counted is not in the ring
            assert sum(r.get(counter, 0) for r in watch.select(reporter=reporter)) == sent
    by_client = [r for r in again if not r.get("reply")]
    assert {(r["reporter"], r["dst_port"]) for r in by_client} == {("source", 7000)}
    assert {r["dst_ip"] for r in by_client} == {V4["b"], V6["b"]}
    drops = watch.select(kind="drop", drop_reason="NETFILTER_DROP", verdict="dropped")
    assert watch.all_told(drops, dropped)
    assert {(r["dst_ip"], r["dst_port"]) for r in drops} == {(V4["b"], 7000), (V6["b"], 7000)}


def test_a_burst_of_drops(running: tuple[Lab, Stack]) -> None:
    """It is told of in a few records, the last of which says how many are left out."""
    lab, flowobs = running
    watch = Watch(lab, flowobs)
    with rules(lab, "b", "input", 'udp dport 7005 counter drop comment "burst"'):
        for address in (V4["b"], V6["b"]):
            lab.exec("a", sys.executable, TALK, "burst", address, "7005", "50")
        dropped = counted(lab, "b", "rules")["burst packets"]
    watch.read()
    drops = watch.select(kind="drop", drop_reason="NETFILTER_DROP", dst_port=7005)
    assert dropped == 2 * 51
    assert len(drops) < 30
    assert watch.all_told(drops, dropped)
