from __future__ import annotations

import errno
import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from flowobs.agent import bpf, loader, netns
from flowobs.agent.attach import Attachments
from flowobs.agent.drain import FlowDrain
from flowobs.agent.links import LinkMonitor
from flowobs.agent.loader import Probes
from flowobs.agent.metrics import Metrics
from flowobs.agent.records import OWNER
from flowobs.agent.tc import Method
from tests.agent.netlab import FAR, NetLab, sh, wait_until

pytestmark = [pytest.mark.root, pytest.mark.bpf]

TC = ("flow_ingress", "flow_egress", "flow_ingress_l3", "flow_egress_l3")
PRINT_COOKIE = "print(int.from_bytes(s.getsockopt(1, 57, 8), 'little'))"
SEND = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"


@pytest.fixture
def lab() -> Iterator[NetLab]:
    with NetLab() as made:
        yield made


@pytest.fixture
def probes() -> Iterator[Probes]:
    with loader.load("core", flow_entries=4096, only=TC) as loaded:
        yield loaded


class Made:
    """Makes Attachments for the lab's near namespace and stops them all."""

    def __init__(self, probes: Probes, lab: NetLab) -> None:
        self.probes, self.lab = probes, lab
        self.metrics = Metrics(CollectorRegistry())
        self.crashes: list[BaseException] = []
        self.all: list[Attachments] = []
        self.drain = FlowDrain(probes.maps)

    def __call__(self, **options: Any) -> Attachments:
        options = {"namespace": self.lab.path} | options
        made = Attachments(self.probes, self.metrics, self.crashes.append, **options)
        self.all.append(made)
        return made

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"flowobs_agent_{name}", labels)

    def seen(self, port: int) -> list[tuple[int, int]]:
        """(ifindex, packets) of UDP flows with this port since the last call."""
        found = []
        for keys, flows in self.drain.drain():
            rows = (keys["port_a"] == port) | (keys["port_b"] == port)
            counts = flows["packets"][rows].sum(axis=1)
            found += list(zip(keys["ifindex"][rows].tolist(), counts.tolist(), strict=True))
        return found


@pytest.fixture
def make(probes: Probes, lab: NetLab) -> Iterator[Made]:
    made = Made(probes, lab)
    yield made
    for one in made.all:
        one.stop()


def index_of(attachments: Attachments, name: str) -> int:
    return next(i for i, link in attachments.links.items() if link.name == name)


@pytest.mark.parametrize("method", ["tcx", "clsact"])
def test_every_packet_of_every_link_once(make: Made, lab: NetLab, method: Method) -> None:
    attachments = make(method=method)
    attachments.start()
    lo, v0 = index_of(attachments, "lo"), index_of(attachments, "v0")
    assert attachments.attached == {lo, v0}
    assert make.value("links_attached") == 2

    lab.python(SEND + f"[s.sendto(b'x', (h, 4000)) for h in ('{FAR}', '127.0.0.1') * 5]")
    lab.python(SEND + "[s.sendto(b'x', ('10.98.0.1', 4000)) for _ in range(5)]", far=True)

    assert sorted(make.seen(4000)) == [(lo, 5), (v0, 5), (v0, 5)]


@pytest.mark.parametrize("method", ["auto", "clsact"])
def test_stop_leaves_nothing(make: Made, lab: NetLab, method: Method) -> None:
    attachments = make(method=method)
    attachments.start()
    attachments.stop()
    attachments.stop()

    lab.python(SEND + f"s.sendto(b'x', ('{FAR}', 4000))")
    assert make.seen(4000) == []
    assert attachments.attached == frozenset()
    assert "clsact" not in sh(f"tc -n {lab.near} qdisc show")


def test_a_queue_of_others_stays(make: Made, lab: NetLab) -> None:
    sh(f"tc -n {lab.near} qdisc add dev v0 clsact")
    attachments = make(method="clsact")
    attachments.start()
    attachments.stop()
    assert "clsact" in sh(f"tc -n {lab.near} qdisc show dev v0")


@pytest.mark.parametrize("others", [False, True])
def test_a_queue_that_a_crash_has_left_goes_unless_others_use_it(
    make: Made, lab: NetLab, others: bool
) -> None:
    v0 = int(lab.ip("-o link show v0").split(":")[0])
    program = make.probes.programs["flow_egress"]
    netns.call(lab.path, lambda: bpf.attach_clsact(program, v0, True, handle=bpf.CLSACT_OWN_QUEUE))
    if others:
        sh(f"tc -n {lab.near} filter add dev v0 ingress prio 7 protocol ip u32 match u32 0 0")
    attachments = make(method="tcx")
    attachments.start()
    attachments.stop()
    assert ("clsact" in sh(f"tc -n {lab.near} qdisc show dev v0")) is others


def test_filters_that_a_crash_has_left_go_at_start(make: Made, lab: NetLab) -> None:
    attachments = make()
    v0 = int(lab.ip("-o link show v0").split(":")[0])
    program = make.probes.programs["flow_egress"]
    netns.call(lab.path, lambda: bpf.attach_clsact(program, v0, True))
    attachments.start()

    lab.python(SEND + f"s.sendto(b'x', ('{FAR}', 4000))")

    assert make.seen(4000) == [(v0, 1)]  # not twice
    assert "bpf" not in sh(f"tc -n {lab.near} filter show dev v0 egress")


@pytest.mark.parametrize("method", ["tcx", "clsact"])
def test_links_come_and_go(make: Made, lab: NetLab, method: Method) -> None:
    attachments = make(method=method)
    attachments.start()
    lab.ip("link add v2 type veth peer name v3")
    wait_until(lambda: "v2" in {link.name for link in attachments.links.values()})
    v2 = index_of(attachments, "v2")
    wait_until(lambda: v2 in attachments.attached)  # before it is up
    lab.ip("link set v2 up")

    lab.ip("link del v2")
    wait_until(lambda: v2 not in attachments.attached)
    assert attachments.links[v2].name == "v2"  # its last records are still to be named
    assert attachments.links[v2].addresses == frozenset()
    assert make.value("attach_failures_total") == 0
    assert make.crashes == []


def test_attached_before_the_first_packet_of_a_new_link(make: Made, lab: NetLab) -> None:
    attachments = make()
    attachments.start()
    began = time.monotonic()
    lab.ip("link set v0 down")
    lab.ip("link add v2 type veth peer name v3")
    lab.ip("link set v2 up")
    v2 = int(lab.ip("-o link show v2").split(":")[0])
    made = time.monotonic()
    wait_until(lambda: v2 in attachments.attached)
    # four commands take longer on a busy machine, and so does this
    assert time.monotonic() - made < max(1.0, 5 * (made - began))


def test_globs(make: Made, lab: NetLab) -> None:
    attachments = make(include=("v*", "lo"), exclude=("v1?",))
    lab.ip("link add v10 type veth peer name br7")
    for name in ("v10", "br7"):
        lab.ip(f"link set {name} up")
    attachments.start()
    names = {link.ifindex: link.name for link in attachments.links.values()}
    assert {names[i] for i in attachments.attached} == {"lo", "v0"}

    lab.ip("link set br7 down")
    lab.ip("link set br7 name v20")
    lab.ip("link set v20 up")
    wait_until(lambda: len(attachments.attached) == 3)
    lab.ip("link set v20 down")
    lab.ip("link set v20 name v19")
    wait_until(lambda: len(attachments.attached) == 2)


def test_names_that_leave_no_interface_are_said(
    make: Made, lab: NetLab, caplog: pytest.LogCaptureFixture
) -> None:
    attachments = make(include=["eht0", "new"])
    with caplog.at_level(logging.WARNING):
        attachments.start()
    (said,) = [r.getMessage() for r in caplog.records if r.name == "flowobs.agent.attach"]
    assert said.startswith("no interface is observed: --interface and --exclude-interface leave")
    assert "lo" in said and "v0" in said and not attachments.attached

    lab.ip("link set v0 name new")
    wait_until(lambda: len(attachments.attached) == 1)


def test_a_link_that_refuses_is_said_once_and_counted(
    make: Made, lab: NetLab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attach = bpf.attach_tcx

    def refuse(program: int, ifindex: int, egress: bool) -> int:
        if ifindex == 1 or egress:
            return attach(program, ifindex, egress)
        raise bpf.BpfError(errno.ENOMEM, "cannot attach: Cannot allocate memory")

    monkeypatch.setattr(bpf, "attach_tcx", refuse)
    attachments = make()
    with caplog.at_level(logging.WARNING):
        attachments.start()
        for change in ("down", "up"):
            lab.ip(f"link set v0 {change}")
        wait_until(lambda: (make.value("attach_failures_total") or 0) >= 2)

    assert attachments.attached == {1}
    said = [r.getMessage() for r in caplog.records if r.name == "flowobs.agent.attach"]
    assert said == ["interface v0: cannot attach: Cannot allocate memory"]

    # The half that did attach is taken back, each time: v0 may be tried again while we look.
    def unseen() -> bool:
        lab.python(SEND + f"s.sendto(b'x', ('{FAR}', 4000))")
        return not make.seen(4000)

    wait_until(unseen)


# A program behind a tun device that sends packets back to who sent them, as many as it is told.
TUN = """
import fcntl, os, struct, subprocess, sys, threading
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001))
def swallow():  # it counts what was read
    while True: os.read(tun, 2000)
for words in ("addr add 10.97.0.1/24 dev tun0", "addr add fd97::1/64 dev tun0 nodad",
              "link set tun0 addrgenmode none up"):
    subprocess.run(["ip", *words.split()], check=True)
print("ready", flush=True)
for _ in range(int(sys.argv[1])):
    p = os.read(tun, 2000)
    ends, n = (12, 4) if p[0] >> 4 == 4 else (8, 16)
    a, b = p[ends : ends + n], p[ends + n : ends + 2 * n]
    os.write(tun, p[:ends] + b + a + p[ends + 2 * n :])
threading.Thread(target=swallow, daemon=True).start()
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("method", ["tcx", "clsact"])
def test_links_without_a_link_header(make: Made, lab: NetLab, method: Method) -> None:
    attachments = make(method=method)
    attachments.start()
    sh(f"ip netns exec {lab.near} sysctl -qw net.ipv6.conf.default.disable_ipv6=0")
    command = ["ip", "netns", "exec", lab.near, sys.executable, "-c", TUN, "60"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as echo:
        assert echo.stdout is not None and echo.stdin is not None
        assert echo.stdout.readline() == "ready\n"
        wait_until(lambda: any(link.name == "tun0" for link in attachments.links.values()))
        tun0 = index_of(attachments, "tun0")
        wait_until(lambda: tun0 in attachments.attached)
        lab.python(SEND + "for n in range(30): s.sendto(bytes(n), ('10.97.0.2', 4000))")
        six = SEND.replace("AF_INET,", "AF_INET6,")
        lab.python(six + "for n in range(30): s.sendto(bytes(n), ('fd97::2', 4000))")
        assert echo.stdout.readline() == "done\n"
        sums, families = np.zeros(2, int), set()

        def all_counted() -> bool:
            """By us as by the device, which counts what it was asked for: the last ones later."""
            for keys, flows in make.drain.drain():
                mine = keys["ifindex"] == tun0
                sums[:] += [int(flows[unit][mine].sum()) for unit in ("packets", "bytes")]
                families.update(keys["family"][mine].tolist())
            return sums.tolist() == lab.counters("tun0").tolist()

        wait_until(all_counted)
        echo.stdin.close()
    assert sums[0] >= 120  # and what the kernel answers to that
    assert families == {4, 6}
    assert make.value("attach_failures_total") == 0


# IFF_TUN of the type of a CAN bus: ARPHRD_CAN, whose frames nobody here understands.
CAN = """
import fcntl, os, struct, sys
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"can7", 0x1001))
fcntl.ioctl(tun, 0x400454CD, 280)
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_link_of_another_kind_is_left_alone_and_said_once(
    make: Made, lab: NetLab, caplog: pytest.LogCaptureFixture
) -> None:
    command = ["ip", "netns", "exec", lab.near, sys.executable, "-c", CAN]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as can:
        assert can.stdout is not None and can.stdin is not None
        assert can.stdout.readline() == "ready\n"
        attachments = make()
        with caplog.at_level(logging.WARNING):
            attachments.start()
            before = attachments.attached
            lab.ip("link set can7 up")
            wait_until(lambda: any("can7" in r.getMessage() for r in caplog.records))
            lab.ip("link set can7 mtu 1400")
            lab.ip("link add last0 type veth peer name last1")
            lab.ip("link set last0 up")
            wait_until(lambda: len(attachments.attached) > len(before))
        can.stdin.close()
    said = [r.getMessage() for r in caplog.records if "can7" in r.getMessage()]
    assert said == ["interface can7: not observed: its frames begin with neither Ethernet nor IP"]
    assert make.value("attach_failures_total") == 0


def test_an_older_kernel_gets_filters(
    make: Made, lab: NetLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> int:
        raise bpf.BpfError(errno.EINVAL, "cannot attach by TCX: Invalid argument")

    monkeypatch.setattr(bpf, "attach_tcx", missing)
    attachments = make()
    attachments.start()
    lab.python(SEND + f"s.sendto(b'x', ('{FAR}', 4000))")
    assert [packets for _, packets in make.seen(4000)] == [1]
    assert make.value("attach_failures_total") == 0


def test_a_link_that_went_meanwhile_is_no_failure(
    make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> int:
        raise bpf.BpfError(errno.ENODEV, "no such device")

    monkeypatch.setattr(bpf, "attach_tcx", gone)
    make().start()
    assert make.value("attach_failures_total") == 0
    assert make.value("links_attached") == 0


def test_no_such_namespace(make: Made) -> None:
    attachments = make(namespace="/run/netns/fo-none")
    with pytest.raises(FileNotFoundError):
        attachments.start()
    assert make.crashes == []


def test_a_crash_of_the_thread_is_told(
    make: Made, lab: NetLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    attachments = make()
    attachments.start()

    def crash(self: LinkMonitor) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(LinkMonitor, "poll", crash)
    lab.ip("link set v0 down")
    wait_until(lambda: make.crashes)
    assert str(make.crashes[0]) == "boom"
    wait_until(lambda: not attachments.attached)  # and detached, all the same


def test_a_tracepoint_that_refuses_costs_itself(
    lab: NetLab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(program: int, name: str) -> int:
        raise bpf.BpfError(errno.ENOENT, f"cannot attach to tracepoint {name}")

    monkeypatch.setattr(bpf, "attach_raw_tracepoint", refuse)
    with loader.load("core", flow_entries=64, only=(*TC, "tcp_retransmit")) as probes:
        made = Made(probes, lab)
        attachments = made()
        attachments.start()
        attachments.stop()
    assert attachments.missing == {
        "tcp_retransmit": "cannot attach to tracepoint tcp_retransmit_skb"
    }
    loaded = {
        name: made.value("program_loaded", program=name, feature=feature)
        for name, feature in (("tcp_retransmit", "tcp"), ("flow_egress", "flows"))
    }
    assert loaded == {"tcp_retransmit": 0, "flow_egress": 1}


def test_owners_below_a_cgroup(lab: NetLab) -> None:
    mount = next(
        Path(line.split()[1])
        for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[2] == "cgroup2"
    )
    folder = mount / lab.near
    folder.mkdir()
    try:
        with loader.load("core", flow_entries=64, only=(*TC, "owner_sock_create")) as probes:
            made = Made(probes, lab)
            attachments = made(cgroup=folder)
            attachments.start()
            cookie = int(
                sh(
                    f"echo $$ > {folder}/cgroup.procs; exec ip netns exec {lab.near}"
                    f" {sys.executable} -c {shlex.quote(SEND + PRINT_COOKIE)}"
                )
            )
            owner = np.zeros(1, OWNER.dtype)
            assert bpf.lookup(probes.maps["owners"], np.uint64(cookie), owner)
            attachments.stop()
        assert owner["cgroup"][0] == folder.stat().st_ino
    finally:
        folder.rmdir()
