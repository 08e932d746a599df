"""The machine's own addresses and sockets."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flowobs.batch import Endpoint
from flowobs.identity import CgroupPaths, HostSource, Resolver, Socket, find_mount
from flowobs.identity.source import END
from flowobs.schema import EndpointKind
from tests.identity.fakes import FakeSource, ip, pod

CID = "0123456789ab" + "0" * 52
ME = Endpoint(EndpointKind.host, name="me", node="me", identity_source="host", identity=1)
CONTAINER = ME._replace(
    kind=EndpointKind.container,
    name="0123456789ab",
    workload="0123456789ab",
    workload_kind="Container",
    container="0123456789ab",
)


class Machine:
    """A cgroup mount and a /proc made of ordinary folders, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.mount = folder / "cgroup"
        self.proc = folder / "proc"
        self.mount.mkdir()
        self.now = 0.0
        self.utc = 0
        self.addresses = {ip("192.168.1.5")}

    def cgroup(self, path: str) -> int:
        folder = self.mount / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        return folder.stat().st_ino

    def process(self, pid: int, cgroups: str) -> None:
        folder = self.proc / str(pid)
        folder.mkdir(parents=True)
        (folder / "cgroup").write_text(cgroups)

    def source(self, *, hybrid: bool = False) -> HostSource:
        source = HostSource(
            "me",
            lambda: self.addresses,
            CgroupPaths(self.mount, clock=lambda: self.now),
            hybrid=hybrid,
            proc=self.proc,
            clock=lambda: self.utc,
        )
        source.poll()
        return source


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_its_addresses_are_the_host(machine: Machine) -> None:
    source = machine.source()
    for address in ("192.168.1.5", "127.0.0.53", "::1"):
        assert source.by_address(ip(address), 0).endpoint == ME
    assert source.by_address(ip("192.168.1.6"), 0).endpoint is None


def test_an_address_it_loses_stays_its_own_for_older_records(machine: Machine) -> None:
    source = machine.source()
    machine.utc, machine.addresses = 100, {ip("192.168.1.6")}
    source.poll()
    assert source.by_address(ip("192.168.1.5"), 99).endpoint == ME
    assert source.by_address(ip("192.168.1.5"), 100) == (None, 100, END)
    assert source.by_address(ip("192.168.1.6"), 99).endpoint is None
    assert source.generation == 2


def test_addresses_that_are_read_late_hold_for_records_of_before(machine: Machine) -> None:
    machine.addresses = set()
    source = machine.source()
    machine.utc, machine.addresses = 100, {ip("192.168.1.5")}
    source.poll()
    assert source.by_address(ip("192.168.1.5"), 99).endpoint == ME


def test_a_socket_of_a_unit(machine: Machine) -> None:
    cgroup = machine.cgroup(r"/system.slice/my\x2dapp.service")
    assert machine.source().by_socket(Socket(cgroup, 7, "python3")) == ME._replace(
        workload="my-app.service", workload_kind="SystemdUnit"
    )


def test_a_socket_of_a_container(machine: Machine) -> None:
    cgroup = machine.cgroup(f"/system.slice/docker-{CID}.scope")
    assert machine.source().by_socket(Socket(cgroup, 7, "nginx")) == CONTAINER


@pytest.mark.parametrize(
    ("path", "command", "name"),
    [
        (f"/kubepods.slice/kata_overhead/{CID}", "qemu-system-x86", "0123456789ab"),
        (
            f"/system.slice/containerd.service/cri-containerd-{CID}.scope",
            "cloud-hyperviso",
            CID[:12],
        ),
        (f"/default/{CID}", "firecracker", CID[:12]),
    ],
)
def test_a_virtual_machine_around_containers_is_none(
    machine: Machine, path: str, command: str, name: str
) -> None:
    found = machine.source().by_socket(Socket(machine.cgroup(path), 7, command))
    assert found is not None
    assert (found.kind, found.name, found.workload_kind) == (EndpointKind.vm, name, "Guest")


def test_a_socket_of_a_plain_process(machine: Machine) -> None:
    cgroup = machine.cgroup("/user.slice/session-1.scope")
    source = machine.source()
    process = ME._replace(workload="curl", workload_kind="Process")
    assert source.by_socket(Socket(cgroup, 7, "curl")) == process
    assert source.by_socket(Socket(0, 7, "curl")) == process
    assert source.by_socket(Socket(0, 0, "")) is None


def test_a_process_says_what_its_unknown_cgroup_does_not(machine: Machine) -> None:
    machine.process(7, "0::/system.slice/nginx.service\n")
    who = machine.source().by_socket(Socket(12345, 7, "nginx"))
    assert who is not None and who.workload == "nginx.service"


def test_on_a_hybrid_host_containers_are_in_cgroup_v1(machine: Machine) -> None:
    root = machine.cgroup("/")
    daemon = machine.cgroup("/system.slice/containerd.service")
    machine.process(7, f"4:memory:/docker/{CID}\n0::/\n")
    machine.process(8, "4:memory:/\n0::/system.slice/containerd.service\n")
    source = machine.source(hybrid=True)
    assert source.by_socket(Socket(root, 7, "nginx")) == CONTAINER
    assert source.by_socket(Socket(daemon, 7, "nginx")) == CONTAINER
    who = source.by_socket(Socket(daemon, 8, "containerd"))
    assert who is not None and who.workload == "containerd.service"


def test_a_cgroup_that_was_not_there_is_looked_for_once_more(machine: Machine) -> None:
    source = machine.source()
    machine.cgroup("/old")
    source.by_socket(Socket(1, 0, "x"))  # walks
    cgroup = machine.cgroup(f"/docker/{CID}")
    socket = Socket(cgroup, 0, "nginx")
    early = source.by_socket(socket)
    assert early is not None and early.workload == "nginx"
    generation = source.generation
    machine.now += 2
    source.poll()
    assert source.generation == generation + 1
    assert source.by_socket(socket) == CONTAINER
    machine.now += 2
    source.poll()
    assert source.generation == generation + 1


def test_a_cgroup_that_is_gone_is_still_known(machine: Machine) -> None:
    cgroup = machine.cgroup(f"/docker/{CID}")
    source = machine.source()
    assert source.by_socket(Socket(cgroup, 0, "nginx")) == CONTAINER
    (machine.mount / "docker" / CID).rmdir()
    machine.now += 2
    source.by_socket(Socket(99, 0, "x"))
    assert source.by_socket(Socket(cgroup, 0, "nginx")) == CONTAINER


def test_walks_are_limited(machine: Machine) -> None:
    paths = CgroupPaths(machine.mount, clock=lambda: machine.now)
    for cgroup in range(1, 5000):
        paths.path(cgroup)
    assert paths.walks == 1


def test_invented_command_names_are_bounded(machine: Machine) -> None:
    source = machine.source()
    names = {source.by_socket(Socket(0, 1, f"x{i}")) for i in range(6000)}
    assert len(names) == 4097


def test_a_mount_that_is_not_there_is_no_harm(tmp_path: Path) -> None:
    assert CgroupPaths(tmp_path / "none").path(7) is None


def test_the_mount_of_hybrid_hosts(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    old = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
    new = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    for text, found in (
        (old, (None, True)),
        (old + new, (Path("/sys/fs/cgroup/unified"), True)),
        (new, (Path("/sys/fs/cgroup/unified"), False)),
    ):
        mounts.write_text(text)
        assert find_mount(mounts) == found
    assert CgroupPaths(None).path(7) is None


@pytest.mark.root
def test_a_real_cgroup_has_its_inode_as_id() -> None:
    mount, hybrid = find_mount()
    if mount is None:
        pytest.skip("no cgroup v2 is mounted")
    folder = mount / f"flowobs-test-{os.getpid()}.service"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    child = None
    try:
        child = subprocess.Popen(["sleep", "60"])
        (folder / "cgroup.procs").write_text(str(child.pid))
        source = HostSource("me", set, CgroupPaths(mount), hybrid=hybrid)
        who = source.by_socket(Socket(folder.stat().st_ino, child.pid, "sleep"))
        assert who is not None and who.workload == folder.name
        by_process = source.by_socket(Socket(0, child.pid, "sleep"))
        assert by_process is not None and by_process.workload == folder.name
    finally:
        if child is not None:
            child.kill()
            child.wait()
        folder.rmdir()


def test_sockets_tell_shared_addresses_apart() -> None:
    node = Endpoint(EndpointKind.node, "demo", name="n1", node="n1", identity_source="inventory")
    unit = ME._replace(workload="sshd.service", workload_kind="SystemdUnit")
    socket = Socket(1, 2, "sshd")
    resolver = Resolver([FakeSource(), FakeSource("host", sockets={socket: unit})])
    assert resolver.by_socket(node, socket) == node._replace(
        workload="sshd.service", workload_kind="SystemdUnit"
    )
    assert resolver.by_socket(Endpoint(), socket) == unit
    assert resolver.by_socket(node, Socket(9, 9, "x")) == node
    grouped = node._replace(workload="legacy", workload_kind="Group")
    assert resolver.by_socket(grouped, socket) == grouped
    inside = Resolver([FakeSource("host", sockets={socket: CONTAINER})])
    assert inside.by_socket(node, socket) == CONTAINER._replace(cluster="demo", node="n1")


@pytest.mark.parametrize(
    ("address", "kind", "name"),
    [
        ("8.8.8.8", "world", ""),
        ("2606:4700::1111", "world", ""),
        ("10.0.0.1", "unknown", ""),
        ("172.31.255.255", "unknown", ""),
        ("172.32.0.1", "world", ""),
        ("192.168.0.1", "unknown", ""),
        ("100.64.0.1", "unknown", ""),
        ("fd00::1", "unknown", ""),
        ("169.254.1.1", "unknown", "link-local"),
        ("fe80::1", "unknown", "link-local"),
        ("224.0.0.251", "unknown", "multicast"),
        ("ff02::fb", "unknown", "multicast"),
        ("255.255.255.255", "unknown", "broadcast"),
        ("127.0.0.1", "host", "localhost"),
        ("::1", "host", "localhost"),
        ("0.0.0.0", "unknown", ""),
        ("::", "unknown", ""),
        ("2001:db8::1", "unknown", ""),
    ],
)
def test_an_address_nobody_knows_is_judged_by_its_range(address: str, kind: str, name: str) -> None:
    found = Resolver([]).by_address(ip(address), 0).endpoint
    number = {"world": 2, "host": 1}.get(kind, 0)
    assert found == Endpoint(EndpointKind[kind], name=name, identity=number)


def test_the_resolver_polls_its_sources(machine: Machine) -> None:
    source = machine.source()
    resolver = Resolver([source])
    before = resolver.generation
    machine.addresses = set()
    resolver.poll()
    assert resolver.generation == before + 1


def test_the_first_source_that_knows_wins() -> None:
    first, second = FakeSource.of({"10.0.0.1": pod("a")}), FakeSource.of({"10.0.0.0/8": pod("b")})
    resolver = Resolver([first, second])
    found = [resolver.by_address(ip(a), 0).endpoint for a in ("10.0.0.1", "10.0.0.2")]
    assert found == [pod("a"), pod("b")]


def test_the_cgroups_known_are_bounded(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowobs.identity.cgroup_paths._MAX_FOLDERS", 5)
    paths = CgroupPaths(machine.mount, clock=lambda: machine.now)
    known = []
    for i in range(9):
        known.append(machine.cgroup(f"/system.slice/{i}.service"))
        assert paths.path(known[-1]) is not None
        # moved, not removed: this file system would use its inode again, cgroups never do
        (machine.mount / f"system.slice/{i}.service").rename(machine.mount.parent / str(i))
        machine.now += 2
    assert sum(paths.path(cgroup) is not None for cgroup in known) <= 5
