"""Every record of a local socket names the process that /proc has for it, and its cgroup."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import HERE, V4, V6, Lab, Stack, stack

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow, pytest.mark.timeout(240)]

OWN = str(HERE / "own.py")
V = {4: V4, 6: V6}
RESTED = 90
"""Seconds: lists of sockets and searches of /proc rest a hundred times as long as they took."""
KINDS = [(p, f) for p in ("tcp", "udp") for f in (4, 6)]


def cgroup_mount() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(folder)
    return None


class Cgroup:
    """A cgroup of the test's own; what it starts in there is moved before it makes a socket."""

    def __init__(self, name: str) -> None:
        mount = cgroup_mount()
        if mount is None:
            pytest.skip("no cgroup2 file system is mounted")
        self.folder = mount / f"flowobs-test-{os.getpid()}-{name}"
        self.folder.mkdir()
        self.processes: list[subprocess.Popen[str]] = []

    @property
    def id(self) -> int:
        return self.folder.stat().st_ino

    def _enter(self) -> None:
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def start(self, lab: Lab, pod: str, *words: str) -> subprocess.Popen[str]:
        """A process of own.py; returns once it says that it is ready."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", lab.ns(pod), sys.executable, OWN, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # here already: "ip netns exec" hides the cgroup file system
            preexec_fn=self._enter,
        )
        self.processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        return process

    def close(self) -> None:
        # All of them before any is waited for: a worker holds its master's pipe open.
        for pid in (self.folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        for process in self.processes:
            process.communicate()
        for _ in range(50):
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                return
            time.sleep(0.1)


def told(process: subprocess.Popen[str], line: str = "go") -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


class Place:
    """A running stack, with a cgroup for clients and one for servers. ``old`` was there before."""

    def __init__(self, lab: Lab, clients: Cgroup, servers: Cgroup) -> None:
        self.lab, self.clients, self.servers = lab, clients, servers
        self.old: dict[tuple[str, int, str], subprocess.Popen[str]] = {}
        self.flowobs: Stack


@pytest.fixture(scope="module", params=["core", pytest.param("bcc", marks=pytest.mark.bcc)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with Lab() as lab, contextlib.ExitStack() as undo:
        made = Place(lab, Cgroup(f"c-{request.param}"), Cgroup(f"s-{request.param}"))
        undo.callback(made.clients.close)
        undo.callback(made.servers.close)
        for proto, family in KINDS:
            at = V[family]["b"], str(_port(proto, family, old=True))
            made.old[proto, family, "server"] = made.servers.start(lab, "b", "server", proto, *at)
            made.old[proto, family, "client"] = made.clients.start(lab, "a", "client", proto, *at)
            assert told(made.old[proto, family, "client"]) == "done"
        made.flowobs = undo.enter_context(stack(lab, loader=request.param))
        yield made


def _port(proto: str, family: int, *, old: bool = False) -> int:
    return 7500 + (100 if old else 0) + (10 if proto == "udp" else 0) + family


def ends(rows: list[dict[str, Any]], side: str) -> set[tuple[int, str, int]]:
    """(pid, command, cgroup) of the records that know one end's socket."""
    return {
        (r.get(f"{side}_pid", 0), r.get(f"{side}_process", ""), r.get(f"{side}_cgroup", 0))
        for r in rows
        if r.get(f"{side}_cookie")
    }


@pytest.mark.parametrize(("proto", "family"), KINDS)
def test_client_and_server(place: Place, proto: str, family: int) -> None:
    port = _port(proto, family)
    at = V[family]["b"], str(port)
    server = place.servers.start(place.lab, "b", "server", proto, *at)
    client = place.clients.start(place.lab, "a", "client", proto, *at)
    pids = {"src": int(told(client, "pid")), "dst": int(told(server, "pid"))}
    names = {side: command(pid) for side, pid in pids.items()}
    assert told(client) == "done"
    place.flowobs.new_interval()
    assert told(client) == "done"
    assert told(client, "close") == "closed"
    place.flowobs.settle()
    rows = place.flowobs.rows(port=port)
    assert {r["reporter"] for r in rows} == {"source", "destination"}
    for side, cgroup in (("src", place.clients), ("dst", place.servers)):
        assert ends(rows, side) == {(pids[side], names[side], cgroup.id)}
    # The last record of each place knows both ends: the veth carries the sender's socket.
    for reporter in ("source", "destination"):
        last = [r for r in rows if r["reporter"] == reporter][-1]
        assert (last["src_pid"], last["dst_pid"]) == (pids["src"], pids["dst"])


@pytest.mark.parametrize("family", [4, 6])
def test_a_connection_that_is_over_before_anybody_looks(place: Place, family: int) -> None:
    """Both processes and both sockets live for milliseconds: curl against inetd."""
    port = 7520 + family
    address = V[family]["b"]
    server = place.servers.start(place.lab, "b", "hasty", "tcp", address, str(port))
    pid = int(told(server, "pid"))
    name = command(pid)
    clients = []
    for _ in range(10):
        client = place.clients.start(place.lab, "a", "once", "tcp", address, str(port))
        assert client.stdout is not None
        clients.append(int(client.stdout.readline()))
        client.wait()
    place.flowobs.settle()
    rows = [r for r in place.flowobs.rows(port=port) if r["kind"] == "close"]
    assert len(rows) == 20
    assert ends(rows, "dst") == {(pid, name, place.servers.id)}
    assert {pid for pid, _, _ in ends(rows, "src")} == set(clients)
    assert {name for _, name, _ in ends(rows, "src")} == {"once"}


def test_the_same_ports_again_within_a_moment(place: Place) -> None:
    """One record counts for both connections; the openings and ends are each process' own."""
    at = ("tcp", V4["b"], "7581")
    server = place.servers.start(place.lab, "b", "server", *at)
    clients = [place.clients.start(place.lab, "a", "again", *at) for _ in range(2)]
    pids = [int(told(client, "pid")) for client in clients]
    place.flowobs.new_interval()
    for client in clients:
        assert told(client) == "done"
    place.flowobs.settle()
    rows = place.flowobs.rows(port=7581)
    assert sum(r["packets"] > 0 for r in rows) == 2, "they were not within one interval"
    for reporter in ("source", "destination"):
        for kind in ("open", "close"):
            mine = [r for r in rows if (r["kind"], r["reporter"]) == (kind, reporter)]
            assert [r.get("src_pid") for r in mine] == pids, (kind, reporter)
    last = [r for r in rows if r["kind"] == "close"][-1]
    assert last["dst_pid"] == int(told(server, "pid"))


@pytest.mark.parametrize("family", [4, 6])
def test_who_sent_what_an_icmp_error_quotes(place: Place, family: int) -> None:
    """Nobody is at the port."""
    at = ("udp", V[family]["b"], str(7590 + family))
    client = place.clients.start(place.lab, "a", "client", *at)
    pid = int(told(client, "pid"))
    assert told(client, "tell") == "told"
    place.flowobs.settle()
    rows = place.flowobs.rows(port=7590 + family, kind="icmp_error")
    assert {r["reporter"] for r in rows} == {"source", "destination"}
    assert ends(rows, "src") == {(pid, command(pid), place.clients.id)}
    assert all(r.get("src_pid") for r in rows) and not ends(rows, "dst")


@pytest.mark.parametrize(("proto", "family"), KINDS)
def test_sockets_older_than_the_agent(place: Place, proto: str, family: int) -> None:
    client, server = (place.old[proto, family, end] for end in ("client", "server"))
    pids = {"src": int(told(client, "pid")), "dst": int(told(server, "pid"))}
    names = {side: command(pid) for side, pid in pids.items()}

    def known() -> bool:
        assert told(client) == "done"
        time.sleep(0.5)
        rows = place.flowobs.rows(port=_port(proto, family, old=True))
        last = [r for r in rows if r["kind"] == "update"][-1:]
        return all(
            ends(last, side) == {(pids[side], names[side], cgroup.id)}
            for side, cgroup in (("src", place.clients), ("dst", place.servers))
        )

    place.flowobs.wait(known, "agent", timeout=RESTED)


@pytest.mark.parametrize("family", [4, 6])
def test_hasty_connections_to_a_listener_older_than_the_agent(place: Place, family: int) -> None:
    port = _port("tcp", family, old=True)
    server = place.old["tcp", family, "server"]
    pid = int(told(server, "pid"))
    seen = len(place.flowobs.rows(port=port))
    for _ in range(5):
        client = place.clients.start(place.lab, "a", "once", "tcp", V[family]["b"], str(port))
        client.wait()
    place.flowobs.settle()
    rows = [r for r in place.flowobs.rows(port=port)[seen:] if r["kind"] == "close"]
    assert len(rows) == 10
    assert {found for found, _, _ in ends(rows, "dst")} == {pid}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("anywhere", [False, True])
def test_a_socket_that_only_receives(place: Place, family: int, anywhere: bool) -> None:
    """No packet carries its cookie: syslog, statsd."""
    port = 7540 + family + 10 * anywhere
    at = {4: "0.0.0.0", 6: "::"}[family] if anywhere else V[family]["b"]
    server = place.servers.start(place.lab, "b", "mute", "udp", at, str(port))
    client = place.clients.start(place.lab, "a", "client", "udp", V[family]["b"], str(port))
    pids = {"src": int(told(client, "pid")), "dst": int(told(server, "pid"))}
    names = {side: command(pid) for side, pid in pids.items()}
    reporters = ("source", "destination")
    sent = 0

    def rows(reporter: str) -> list[dict[str, Any]]:
        return [r for r in place.flowobs.rows(port=port) if r["reporter"] == reporter]

    def known() -> bool:
        nonlocal sent
        assert told(client, "tell") == "told"
        sent += 1
        time.sleep(0.5)
        return all(
            ends(rows(reporter)[-1:], side) == {(pids[side], names[side], cgroup.id)}
            for side, cgroup in (("src", place.clients), ("dst", place.servers))
            for reporter in reporters
        )

    place.flowobs.wait(known, "agent", timeout=RESTED)
    place.flowobs.settle()
    for reporter in reporters:
        assert sum(r["packets"] for r in rows(reporter)) == sent
        assert not sum(r["reply_packets"] for r in rows(reporter))


def test_a_listener_without_bind(place: Place) -> None:
    server = place.servers.start(place.lab, "b", "unbound", "tcp", V4["b"], "0")
    pid, port = int(told(server, "pid")), told(server, "port")

    def known() -> bool:
        client = place.clients.start(place.lab, "a", "once", "tcp", V4["b"], port)
        client.wait()
        time.sleep(0.5)
        rows = [r for r in place.flowobs.rows(port=int(port)) if r["kind"] == "close"]
        return {found for found, _, _ in ends(rows[-2:], "dst")} == {pid}

    place.flowobs.wait(known, "agent", timeout=RESTED)


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_a_daemon_is_not_the_parent_that_made_its_socket(place: Place, proto: str) -> None:
    """It has ended, and what the daemon accepts ends before anybody looks."""
    port = {"tcp": 7560, "udp": 7561}[proto]
    at = (proto, V4["b"], str(port))
    server = place.servers.start(place.lab, "b", "daemon", *at)
    pid = int(told(server, "pid"))
    assert pid != server.pid

    def known() -> bool:
        place.clients.start(place.lab, "a", "once", *at).wait()
        time.sleep(0.5)
        kind = {"tcp": "close", "udp": "update"}[proto]
        rows = [r for r in place.flowobs.rows(port=port) if r["kind"] == kind]
        return {found for found, _, _ in ends(rows[-2:], "dst")} == {pid}

    place.flowobs.wait(known, "agent", timeout=RESTED)
    cookie = place.flowobs.rows(port=port)[-1]["dst_cookie"]
    url = f"{place.flowobs.agent_url}/whois?q={cookie}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        (claim,) = json.load(answer)["claims"]
    assert f"daemon ({pid})" in claim["reason"]


def test_who_closes_at_once_is_told_from_who_handed_it_the_listener(place: Place) -> None:
    """A service that systemd has activated: its manager goes on listening."""
    at = ("tcp", V4["b"], "7570")
    server = place.servers.start(place.lab, "b", "activating", *at)
    worker = int(told(server, "worker"))
    for _ in range(10):
        place.clients.start(place.lab, "a", "once", *at).wait()
    place.flowobs.settle()
    rows = [r for r in place.flowobs.rows(port=7570) if r["kind"] == "close"]
    assert len(rows) == 20
    assert {found for found, _, _ in ends(rows, "dst")} == {worker}


def test_a_worker_that_accepts_is_told_from_the_master_that_listens(place: Place) -> None:
    server = place.servers.start(place.lab, "b", "forking", "tcp", V4["b"], "7530")
    worker = int(told(server, "worker"))
    client = place.clients.start(place.lab, "a", "client", "tcp", V4["b"], "7530")

    def seen() -> bool:
        assert told(client) == "done"
        time.sleep(1)
        return any(r.get("dst_pid") == worker for r in place.flowobs.rows(port=7530))

    place.flowobs.wait(seen, "agent", timeout=RESTED)
    assert told(client, "close") == "closed"
    place.flowobs.settle()
    close = [r for r in place.flowobs.rows(port=7530) if r["kind"] == "close"]
    assert {r["dst_pid"] for r in close} == {worker}
