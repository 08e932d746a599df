"""What the kernel hands on in one piece and cuts late (GSO) counts as it would on a wire."""

from __future__ import annotations

import sys

import pytest

from tests.e2e.lab import V4, V6, Lab, Stack
from tests.truth.conftest import TALK
from tests.truth.kernel import ETHERNET, Watch, change, counted

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]

MEGABYTES = 200
TIMESTAMPS = 12  # bytes of TCP options in every segment of an open connection
UDP_SENDS, UDP_SIZE = 200, 1000


@pytest.mark.parametrize(
    ("address", "header", "parallel"),
    [(V4["b"], 20, 1), (V6["b"], 40, 50)],
    ids=["v4-1", "v6-50"],
)
def test_tcp(running: tuple[Lab, Stack], address: str, header: int, parallel: int) -> None:
    lab, flowobs = running
    watch = Watch(lab, flowobs)
    before = counted(lab, "a")
    server = lab.start("b", "iperf3", "--server", "--one-off", "--port", "5201", "--forceflush")
    assert server.stdout is not None
    while "listening" not in server.stdout.readline():
        assert server.poll() is None
    words = ("--port", "5201", "--bytes", f"{MEGABYTES}M", "--parallel", str(parallel))
    lab.exec("a", "iperf3", "--client", address, *words)
    server.communicate(timeout=60)
    watch.read()

    mine = watch.select(proto="tcp", interface="va")
    seen = {unit: sum(r[unit] for r in mine) for unit in ("packets", "bytes")}
    nft = change(before, counted(lab, "a"))
    version = 4 if header == 20 else 6
    skbs, ip_bytes = (nft[f"output {version} tcp {unit}"] for unit in ("packets", "bytes"))
    # RFC 4022: tcpOutSegs is without "those containing only retransmitted octets"
    sent = watch.proc["a"]["Tcp.OutSegs"] + watch.proc["a"]["Tcp.RetransSegs"]
    print(f"{sent} segments by the kernel, {seen['packets']} by us, in {skbs} pieces")
    assert skbs < sent / 5, "nothing was sent in large pieces: this proves nothing"
    assert seen["packets"] == sent
    # each segment but the first of a piece repeats the headers
    repeated = (seen["packets"] - skbs) * (header + 20 + TIMESTAMPS)
    assert seen["bytes"] == ip_bytes + repeated + ETHERNET * seen["packets"]


def test_udp(running: tuple[Lab, Stack]) -> None:
    lab, flowobs = running
    watch = Watch(lab, flowobs)
    datagrams = UDP_SENDS * 10
    for address in (V4["b"], V6["b"]):
        sink = lab.start("b", sys.executable, TALK, "sink", address, "7001", str(datagrams))
        assert sink.stdout is not None and sink.stdout.readline() == "ready\n"
        words = ("segments", address, "7001", str(UDP_SENDS), str(UDP_SIZE))
        lab.exec("a", sys.executable, TALK, *words)
        assert sink.stdout.readline() == f"{datagrams} {datagrams * UDP_SIZE}\n"
    watch.read()
    assert watch.links["va"]["rx_packets"] < datagrams, "not cut late: this proves nothing"
    for link in ("va", "vb"):
        for address, header in ((V4["b"], 20), (V6["b"], 40)):
            mine = watch.select(interface=link, dst_ip=address)
            assert sum(r["packets"] for r in mine) == datagrams
            assert sum(r["bytes"] for r in mine) == datagrams * (ETHERNET + header + 8 + UDP_SIZE)
