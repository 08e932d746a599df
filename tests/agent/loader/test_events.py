"""What the programs tell is right with either loader: offsets, hooks and maps together."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowobs.agent import bpf, loader, netns
from flowobs.agent.btf import Btf
from flowobs.agent.drain import FlowDrain
from flowobs.agent.features import PROGRAMS
from flowobs.agent.loader import Probes
from flowobs.agent.records import (
    CPU_STATS,
    EVENT,
    FLOW_KEY,
    HELD_KEY,
    OWNER,
    RETRANSMITS,
    SOCKET_OWNER,
    STATS,
)
from flowobs.agent.ring import RingReader
from flowobs.identity.cgroup_paths import find_mount
from flowobs.schema import Kind
from tests.agent.netlab import NetLab

pytestmark = [pytest.mark.root, pytest.mark.bpf]

HOOKS = {program.name: program for program in PROGRAMS}


@pytest.fixture(params=["core", pytest.param("bcc", marks=pytest.mark.bcc)], scope="module")
def probes(request: pytest.FixtureRequest, objects: Path) -> Iterator[Probes]:
    with loader.load(request.param, flow_entries=1000) as loaded:
        yield loaded


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace with loopback, held by a process that sleeps."""
    script = "ip link set lo up && echo up && exec sleep 60"
    holder = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "up\n"
    yield f"/proc/{holder.pid}/ns/net"
    holder.kill()
    holder.wait()
    holder.stdout.close()


def test_a_refused_connection_is_told_with_its_ends_and_its_namespace(
    probes: Probes, namespace: str
) -> None:
    with Btf.kernel() as kernel:
        no_socket = {name: n for n, name in kernel.drop_reasons().items()}["NO_SOCKET"]
    bpf.update(probes.maps["drop_filter"], np.uint32(no_socket), np.uint32(1))
    names = ("tcp_state", "tcp_send_reset", "tcp_receive_reset", "skb_drop")
    links = [bpf.attach_raw_tracepoint(probes.programs[n], HOOKS[n].hook) for n in names]
    ring = RingReader(probes.maps["events"], EVENT.dtype)
    try:
        netns.call(namespace, lambda: refuse(9))
        events = np.concatenate(ring.read())
    finally:
        ring.close()
        for link in links:
            os.close(link)
    ours = events[events["netns"] == Path(namespace).stat().st_ino]
    told = {Kind(int(event["kind"])).name.lower(): event for event in ours}
    assert set(told) == {"fail", "reset", "drop"}
    for event in told.values():
        assert event["key"]["proto"] == socket.IPPROTO_TCP
        assert event["key"]["family"] == 4
        assert bytes(event["key"]["addr_a"]) == bytes(10) + b"\xff\xff\x7f\0\0\1"
        assert 9 in (event["key"]["port_a"], event["key"]["port_b"])
    assert told["fail"]["reason"] == 111  # ECONNREFUSED
    assert told["drop"]["reason"] == no_socket


def test_each_namespace_has_its_own_limit(probes: Probes) -> None:
    """The same ends in two namespaces are two flows: a noisy one does not silence the other."""
    tries, mine = 20, 41234
    room = bpf.map_info(probes.maps["held_0"]).max_entries
    keys, held = np.empty(room, HELD_KEY.dtype), np.empty(room, EVENT.dtype)
    link = bpf.attach_raw_tracepoint(probes.programs["tcp_state"], HOOKS["tcp_state"].hook)
    ring = RingReader(probes.maps["events"], EVENT.dtype)
    bpf.drain(probes.maps["held_0"], keys, held)
    try:
        with NetLab() as lab:
            places = [f"/run/netns/{name}" for name in (lab.near, lab.far)]
            inodes = [Path(place).stat().st_ino for place in places]
            for place in places:
                for _ in range(tries):
                    netns.call(place, lambda: refuse(9, mine))
        told = np.concatenate(ring.read())
        count = bpf.drain(probes.maps["held_0"], keys, held)
    finally:
        ring.close()
        os.close(link)
    for inode in inodes:
        at_once = np.count_nonzero(told["netns"] == inode)
        ours = held[:count][keys[:count]["netns"] == inode]
        assert at_once >= 5
        assert len(ours) == (at_once < tries)
        assert at_once + (1 + ours["held"]).sum() == tries


def test_a_connecting_process_is_noted_in_its_cgroup(probes: Probes, namespace: str) -> None:
    root = find_mount()[0]
    if root is None:
        pytest.skip("no cgroup2 file system is mounted")
    folder = Path(tempfile.mkdtemp(prefix="flowobs-test-", dir=root))
    names = ("owner_sock_create", "owner_connect4", "owner_connect6")
    links = [
        bpf.attach_cgroup(probes.programs[name], folder, HOOKS[name].attach_type) for name in names
    ]
    try:
        process = connect_in(folder, namespace)
        owners = all_owners(probes)
        ours = owners[owners["pid"] == process]
        assert len(ours) == 1
        assert bytes(ours[0]["comm"]).rstrip(b"\0").startswith(b"python")
        assert ours[0]["cgroup"] == folder.stat().st_ino
    finally:
        for link in links:
            os.close(link)
        folder.rmdir()


def test_open_sockets_are_found_with_their_process(probes: Probes) -> None:
    if "socket_owners" not in probes.programs:
        pytest.skip(probes.missing["socket_owners"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        cookie = int.from_bytes(server.getsockopt(socket.SOL_SOCKET, 57, 8), sys.byteorder)
        link = bpf.attach_iterator(probes.programs["socket_owners"])
        rows = np.frombuffer(bpf.read_iterator(link), SOCKET_OWNER.dtype)
        again = bpf.read_iterator(link)
        os.close(link)
    ours = rows[rows["cookie"] == cookie]
    assert set(ours["owner"]["pid"].tolist()) == {os.getpid()}
    assert len(again) >= SOCKET_OWNER.dtype.itemsize


def test_retransmits_without_room_are_counted(probes: Probes, namespace: str) -> None:
    room = bpf.map_info(probes.maps["retransmits_0"]).max_entries
    key = np.zeros(room, FLOW_KEY.dtype)
    key["ifindex"] = np.arange(room)
    for name in ("retransmits_0", "retransmits_1"):
        for row in key:
            bpf.update(probes.maps[name], row, np.zeros((), RETRANSMITS.dtype))
    link = bpf.attach_raw_tracepoint(probes.programs["tcp_retransmit"], "tcp_retransmit_skb")
    try:
        before = without_room(probes)
        netns.call(namespace, silence)
        assert without_room(probes) > before
    finally:
        os.close(link)
        for name in ("retransmits_0", "retransmits_1"):
            bpf.drain(probes.maps[name], key, np.empty(room, RETRANSMITS.dtype))


def test_strangers_leave_half_of_the_retransmits_to_flows_that_were_seen(
    probes: Probes, namespace: str
) -> None:
    """Here as many as are let in were there before."""
    room = bpf.map_info(probes.maps["retransmits_0"]).max_entries
    strangers = np.zeros((), RETRANSMITS.dtype)
    strangers["segments"] = room // 2
    for name in ("retransmits_0", "retransmits_1"):
        bpf.update(probes.maps[name], np.zeros((), FLOW_KEY.dtype), strangers)
    link = bpf.attach_raw_tracepoint(probes.programs["tcp_retransmit"], "tcp_retransmit_skb")
    drain = FlowDrain(probes.maps)
    try:
        before = without_room(probes)
        bpf.test_run(probes.programs["flow_egress"], syn("10.9.9.9", 9, source=41235))
        with ThreadPoolExecutor() as both:
            waits = [
                both.submit(netns.call, namespace, partial(silence, port)) for port in (0, 41235)
            ]
        for wait in waits:
            wait.result()
        assert without_room(probes) > before
    finally:
        os.close(link)
    told = []
    for _ in range(2):
        for _ in drain.drain():
            pass
        keys, _ = drain.retransmits
        ours = keys[keys["ifindex"] == Path(namespace).stat().st_ino]
        told += ours[["port_a", "port_b"]].tolist()
        assert keys["proto"].all()
    assert list(map(set, told)) == [{9, 41235}]


def test_a_segment_that_could_not_be_sent_again_is_none(probes: Probes, namespace: str) -> None:
    """Kernels that tell the error say so at the same place."""
    room = bpf.map_info(probes.maps["retransmits_0"]).max_entries
    keys, counts = np.empty(room, FLOW_KEY.dtype), np.empty(room, RETRANSMITS.dtype)
    link = bpf.attach_raw_tracepoint(probes.programs["tcp_retransmit"], "tcp_retransmit_skb")
    try:
        netns.call(namespace, lose_the_route)
        inode = Path(namespace).stat().st_ino
        for name in ("retransmits_0", "retransmits_1"):
            found = bpf.drain(probes.maps[name], keys, counts)
            assert inode not in keys[:found]["ifindex"].tolist()
    finally:
        os.close(link)


def lose_the_route() -> None:
    """Try to connect, and leave the kernel no way when it is to send the SYN again."""
    subprocess.run(["ip", "route", "add", "10.9.9.8", "dev", "lo"], check=True)
    before = counter("TCPTimeouts")
    with socket.socket() as client:
        client.setblocking(False)
        assert client.connect_ex(("10.9.9.8", 9)) == errno.EINPROGRESS
        subprocess.run(["ip", "route", "del", "10.9.9.8"], check=True)
        deadline = time.monotonic() + 60
        while counter("TCPTimeouts") == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def counter(name: str) -> int:
    """One of this thread's network namespace."""
    lines = Path("/proc/thread-self/net/netstat").read_text().splitlines()
    names, values = lines[0].split(), lines[1].split()
    return int(values[names.index(name)])


def without_room(probes: Probes) -> int:
    """Segments sent again that found no room in their map, so far."""
    stat = STATS["STAT_RETRANSMITS_FULL"][0]
    counts = bpf.lookup_percpu(probes.maps["stats"], 0, CPU_STATS.dtype)["counts"]
    return int(counts["packets"][:, stat].sum())


def syn(destination: str, port: int, *, source: int) -> bytes:
    """The frame that opens a connection from 127.0.0.1."""
    ends = socket.inet_aton("127.0.0.1") + socket.inet_aton(destination)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + ends
    tcp = struct.pack("!HHIIBBHHH", source, port, 1, 0, 0x50, 2, 512, 0, 0)
    return bytes(12) + b"\x08\0" + ip + tcp


def silence(source: int = 0) -> None:
    """Try to connect to an address that does not answer, until the SYN was sent again: due after a
    second, later on a busy machine.
    """
    subprocess.run(["ip", "route", "replace", "10.9.9.9", "dev", "lo"], check=True)
    with socket.socket() as client, pytest.raises(TimeoutError):
        client.bind(("127.0.0.1", source))
        client.settimeout(3.5)
        client.connect(("10.9.9.9", 9))


def refuse(port: int, source: int = 0) -> None:
    """Connect to a port where nobody listens."""
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("127.0.0.1", source))
        client.connect(("127.0.0.1", port))


def connect_in(cgroup: Path, namespace: str) -> int:
    """Have a new process in that cgroup and namespace make a connection; its pid."""
    script = (
        "import os, socket, sys\n"
        f"open({str(cgroup / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "client = socket.socket()\n"
        "client.connect_ex(('127.0.0.1', 9))\n"
    )
    enter = ["nsenter", f"--net={namespace}", sys.executable, "-c", script]
    with subprocess.Popen(enter) as process:
        assert process.wait() == 0
    return process.pid


def all_owners(probes: Probes) -> Any:
    cookies, owners = np.empty(65536, np.uint64), np.empty(65536, OWNER.dtype)
    return owners[: bpf.read_batch(probes.maps["owners"], cookies, owners)]
