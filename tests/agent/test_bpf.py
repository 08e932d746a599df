"""Maps, links and programs by fd, on small programs of the test's own, in namespaces of its own."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from flowobs.agent import bpf
from flowobs.agent.bpf import _lib
from tests.agent.netlab import in_private_netns

pytestmark = [
    pytest.mark.root,
    pytest.mark.bpf,
    pytest.mark.skipif(os.geteuid() != 0, reason="loading eBPF needs root"),
    pytest.mark.skipif(not shutil.which("clang"), reason="clang is not installed"),
]

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, __u32);
    __type(value, __u64);
    __uint(max_entries, 1000);
} table SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __type(key, __u32);
    __type(value, __u64);
    __uint(max_entries, 4);
} counters SEC(".maps");
SEC("tc") int count(struct __sk_buff *skb) {
    __u32 key = 1;
    __u64 *value = bpf_map_lookup_elem(&counters, &key);
    if (value) *value += skb->gso_segs ?: 1;
    return -1;
}
"""

LOOPBACK = 1


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bpf.BpfObject]:
    source = tmp_path_factory.mktemp("bpf") / "count.bpf.c"
    source.write_text(SOURCE)
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    options = ["-O2", "-g", "-target", "bpf", include]
    subprocess.run(["clang", *options, "-c", source, "-o", source.with_suffix(".o")], check=True)
    with bpf.BpfObject(source.with_suffix(".o")) as file:
        assert (file.programs, sorted(file.maps)) == (["count"], ["counters", "table"])
        file.load()
        yield file


@pytest.fixture
def table(loaded: bpf.BpfObject) -> Iterator[int]:
    fd = loaded.map_fd("table")
    yield fd
    os.close(fd)


@pytest.fixture
def count(loaded: bpf.BpfObject) -> Iterator[int]:
    fd = loaded.program_fd("count")
    yield fd
    os.close(fd)


def test_set_find_and_delete(table: int) -> None:
    key, value = np.uint32(7), np.zeros((), np.uint64)
    assert not bpf.lookup(table, key, value)
    bpf.update(table, key, np.uint64(1 << 40))
    assert bpf.lookup(table, key, value)
    assert value == 1 << 40
    with pytest.raises(bpf.BpfError, match="map update failed: File exists"):
        bpf.update(table, key, np.uint64(1), bpf.BPF_NOEXIST)
    assert bpf.delete(table, key)
    assert not bpf.delete(table, key)


def test_looks_up_each_of_some_keys(table: int) -> None:
    for number in (3, 5):
        bpf.update(table, np.uint32(number), np.uint64(10 * number))
    keys, values = np.array([5, 4, 3], np.uint32), np.zeros(3, np.uint64)

    found = bpf.lookup_each(table, keys, values)

    assert (found.tolist(), values.tolist()) == ([True, False, True], [50, 0, 30])
    for number in (3, 5):
        bpf.delete(table, np.uint32(number))
    with pytest.raises(bpf.BpfError, match="map lookup failed"):
        bpf.lookup_each(-1, keys, values)


@pytest.mark.parametrize("entries", [0, 1, 999, 1000])
def test_a_drain_moves_everything(table: int, entries: int) -> None:
    for i in range(entries):
        bpf.update(table, np.uint32(i), np.uint64(i * i))
    keys, values = np.empty(1000, np.uint32), np.empty(1000, np.uint64)
    assert bpf.read_batch(table, keys, values) == entries
    assert bpf.drain(table, keys, values) == entries
    assert sorted(keys[:entries].tolist()) == list(range(entries))
    assert (values[:entries] == keys[:entries].astype(np.uint64) ** 2).all()
    assert bpf.drain(table, keys, values) == 0


def test_a_drain_into_small_arrays_leaves_the_rest(table: int) -> None:
    for i in range(500):
        bpf.update(table, np.uint32(i), np.uint64(i))
    keys, values = np.empty(64, np.uint32), np.empty(64, np.uint64)
    seen: list[int] = []
    while got := bpf.drain(table, keys, values):
        assert got <= 64
        seen += keys[:got].tolist()
    assert sorted(seen) == list(range(500))


def test_map_info(table: int) -> None:
    info = bpf.map_info(table)
    assert (info.key_size, info.value_size, info.max_entries, info.name) == (4, 8, 1000, "table")


def test_a_packet_is_counted_with_its_context(loaded: bpf.BpfObject, count: int) -> None:
    counters = loaded.map_fd("counters")
    before = bpf.lookup_percpu(counters, 1, np.uint64).sum()
    assert bpf.test_run(count, bytes(64), repeat=3).value == -1
    skb = np.zeros(192, np.uint8)
    skb[164:168].view(np.uint32)[0] = 10  # __sk_buff.gso_segs
    assert bpf.test_run(count, bytes(64), context=skb.tobytes()).value == -1
    after = bpf.lookup_percpu(counters, 1, np.uint64)
    assert len(after) == bpf.possible_cpus()
    assert after.sum() - before == 13
    with pytest.raises(bpf.BpfError, match="map has no index 9"):
        bpf.lookup_percpu(counters, 9, np.uint64)
    with pytest.raises(bpf.BpfError, match="packet of 3 bytes: Invalid argument"):
        bpf.test_run(count, bytes(3))
    os.close(counters)


def test_many_packets_each_once(loaded: bpf.BpfObject, count: int) -> None:
    packets = [bytes((n,)) * (60 + n) for n in range(5)]
    counters = loaded.map_fd("counters")
    before = bpf.lookup_percpu(counters, 1, np.uint64).sum()
    verdicts, left = bpf.test_run_each(count, packets)
    assert verdicts.tolist() == [-1] * 5
    assert left == b"".join(packets)
    assert bpf.lookup_percpu(counters, 1, np.uint64).sum() - before == 5
    with pytest.raises(bpf.BpfError, match="packet of 3 bytes: Invalid argument"):
        bpf.test_run_each(count, [bytes(3)])
    os.close(counters)


def test_the_kernel_times_runs_while_asked_to(count: int) -> None:
    stats = bpf.enable_stats()
    before = bpf.program_info(count)
    bpf.test_run(count, bytes(64), repeat=100)
    after = bpf.program_info(count)
    os.close(stats)
    assert after.name == "count"
    assert after.run_count - before.run_count == 100
    assert after.run_time_ns > before.run_time_ns


@pytest.mark.parametrize("egress", [False, True])
def test_tcx_ends_with_its_fd(loaded: bpf.BpfObject, count: int, egress: bool) -> None:
    counters = loaded.map_fd("counters")

    def packets(work: Callable[[], None]) -> int:
        before = bpf.lookup_percpu(counters, 1, np.uint64).sum()
        work()
        return int(bpf.lookup_percpu(counters, 1, np.uint64).sum() - before)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.sendto(b"x", sock.getsockname())
            sock.recv(1)

    def work() -> None:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        link = bpf.attach_tcx(count, LOOPBACK, egress)
        assert packets(send) == 1
        os.close(link)
        assert packets(send) == 0

    in_private_netns(work)
    os.close(counters)


@pytest.mark.parametrize("egress", [False, True])
def test_clsact_replaces_and_removes_only_its_own_filter(count: int, egress: bool) -> None:
    def work() -> None:
        assert not bpf.detach_clsact(LOOPBACK, egress)
        bpf.attach_clsact(count, LOOPBACK, egress)
        bpf.attach_clsact(count, LOOPBACK, egress)
        assert bpftool("net", "show").count(b"count") == 1
        assert bpf.detach_clsact(LOOPBACK, egress)
        assert not bpf.detach_clsact(LOOPBACK, egress)
        assert b"count" not in bpftool("net", "show")

    in_private_netns(work)


def test_an_unknown_place_is_said(count: int, tmp_path: Path) -> None:
    with pytest.raises(bpf.BpfError, match="interface 9999 by TCX: No such device"):
        in_private_netns(lambda: os.close(bpf.attach_tcx(count, 9999, False)))
    with pytest.raises(bpf.BpfError, match="tracepoint made_up"):
        bpf.attach_raw_tracepoint(count, "made_up")
    with pytest.raises(bpf.BpfError, match=f"cgroup {tmp_path}"):
        bpf.attach_cgroup(count, tmp_path, bpf.CGROUP_INET4_CONNECT)
    with pytest.raises(bpf.BpfError, match="iterator"):
        bpf.attach_iterator(count)


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("libbpf.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", fail)
    with pytest.raises(bpf.BpfError, match="install libbpf1"):
        _lib.lib.__wrapped__()


def bpftool(*arguments: str) -> bytes:
    return subprocess.run(["bpftool", *arguments], capture_output=True, check=True).stdout
