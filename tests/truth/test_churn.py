"""Interfaces come and go by the hundred: nothing stays behind, and little is missed."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.busy import measured
from tests.e2e.lab import Lab, Stack, stack
from tests.e2e.test_harmless import links_of
from tests.e2e.test_light import resident_mb

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow, pytest.mark.timeout(240)]

PAIRS, ROUNDS = 200, 2
FRESH = 20  # interfaces whose first packets are looked at


def pid(flowobs: Stack) -> int:
    assert flowobs.agent is not None
    return flowobs.agent.pid


def descriptors(flowobs: Stack) -> int:
    return sum(1 for _ in Path(f"/proc/{pid(flowobs)}/fd").iterdir())


def attached(flowobs: Stack) -> int:
    return int(flowobs.metric(flowobs.agent_url, "flowobs_agent_links_attached"))


def wait(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@contextmanager
def few_files(limit: int) -> Iterator[None]:
    """Processes that are started now may open so few files, unless they ask for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def batch(lab: Lab, *commands: str) -> None:
    """Many ``ip`` commands in the node, by one process."""
    subprocess.run(
        ["ip", "-n", lab.ns("node"), "-batch", "-"],
        input="\n".join(commands) + "\n",
        text=True,
        check=True,
        timeout=60,
    )


def test_nothing_stays_of_interfaces_that_went() -> None:
    """Half of the pairs go while the agent is still busy with their coming. Its soft limit of open
    files is less than they need.
    """
    with Lab() as lab, ExitStack() as running:
        with few_files(256):
            flowobs = running.enter_context(stack(lab, drain_interval=1))
        wait(lambda: attached(flowobs) >= 4)
        # by the kernel's own list of what the agent holds: three links both ways, loopback one way
        links = len(links_of(pid(flowobs)))
        assert links >= 7

        def once(*, patient: bool) -> None:
            batch(
                lab,
                *(
                    f"link add c{i} up type veth peer name p{i} netns {lab.ns('a')}"
                    for i in range(PAIRS)
                ),
            )
            if patient:
                wait(lambda: attached(flowobs) == 4 + PAIRS)
                assert len(links_of(pid(flowobs))) == links + 2 * PAIRS
            batch(lab, *(f"link del c{i}" for i in range(PAIRS)))
            wait(lambda: attached(flowobs) == 4)

        once(patient=True)  # what is made once (caches, arenas) is there from now on
        before = descriptors(flowobs), resident_mb(pid(flowobs))
        began = time.monotonic()
        for number in range(ROUNDS):
            once(patient=number % 2 == 0)
        took = time.monotonic() - began
        after = descriptors(flowobs), resident_mb(pid(flowobs))
        print(f"{ROUNDS * PAIRS} pairs in {took:.0f} s; descriptors, MB: {before} -> {after}")
        # those that came and went between two looks of the agent may still be on its table
        wait(lambda: len(links_of(pid(flowobs))) == links)
        wait(lambda: descriptors(flowobs) <= before[0])
        assert after[1] - before[1] < 8
        failed = flowobs.metric(flowobs.agent_url, "flowobs_agent_attach_failures_total")
        assert failed == 0


SENDER = """
import fcntl, socket, struct, sys, time
prefix, count = sys.argv[1], int(sys.argv[2])
control = socket.socket()
# a UDP datagram over IPv4, without payload; its destination port says which one it is
head = bytes(12) + bytes.fromhex("08004500001c000000004011") + bytes(2)
head += bytes([10, 99, 0, 1, 10, 99, 0, 2]) + bytes([0x1f, 0x90])
print("ready", flush=True)
for link in range(count):
    name = f"{prefix}{link}"
    while True:
        try:
            socket.if_nametoindex(name)
            break
        except OSError:
            time.sleep(0.001)
    began = time.monotonic()
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind((name, 0))
    fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", name.encode(), 1))  # SIOCSIFFLAGS, IFF_UP
    carrier = open(f"/sys/class/net/{name}/carrier")
    while carrier.read() != "1\\n":
        carrier.seek(0)
        time.sleep(0.001)
    times = []
    for number in range(200):
        times.append(time.monotonic() - began)
        raw.send(head + number.to_bytes(2, "big") + bytes(4))
        time.sleep(0.0002)
    print(*times, flush=True)
"""


def first_counted(lab: Lab, flowobs: Stack, prefix: str, *, patient: bool) -> list[float]:
    """Seconds from the appearance of FRESH links, one after the other, to their first counted
    packet; 0 where none was missed.

    Both ends are up, and packets are sent, at once; or, ``patient``, when the agent has attached.
    """
    words = (f"e{prefix}", str(FRESH))
    sender = lab.start("a", sys.executable, "-c", SENDER, *words)
    assert sender.stdout is not None and sender.stdout.readline() == "ready\n"
    sent = []
    for i in range(FRESH):
        peer = f"type veth peer name e{prefix}{i} netns {lab.ns('a')}"
        before = attached(flowobs)
        lab.ip("node", f"link add n{prefix}{i} {'' if patient else 'up'} {peer}")
        if patient:
            wait(lambda before=before: attached(flowobs) > before)
            lab.ip("node", f"link set n{prefix}{i} up")
        sent.append([float(t) for t in sender.stdout.readline().split()])
    flowobs.settle()
    seen: dict[str, set[int]] = {f"n{prefix}{i}": set() for i in range(FRESH)}
    for row in flowobs.rows(kind="update", proto="udp"):
        if row["interface"] in seen:
            seen[row["interface"]].add(row.get("dst_port", 0))
    firsts = []
    for numbers, times in zip(seen.values(), sent, strict=True):
        first = min(numbers, default=len(times) - 1)  # at the least
        assert not numbers or numbers == set(range(first, len(times))), (
            "one after the first is missing"
        )
        firsts.append(times[first] if first else 0.0)
    return firsts


def test_the_first_packets_of_a_new_interface() -> None:
    with Lab() as lab, stack(lab, drain_interval=1) as flowobs:
        with measured() as busy:
            at_once = first_counted(lab, flowobs, "x", patient=False)
        later = first_counted(lab, flowobs, "y", patient=True)
        print(
            f"{at_once.count(0.0)} of {FRESH} links that send at once missed nothing; the others,"
            f" ms: {', '.join(f'{t * 1000:.1f}' for t in sorted(at_once) if t)}"
        )
        assert statistics.median(at_once) < 0.1 + 5 * busy.seconds
        assert later == [0.0] * FRESH, "the agent had attached before it was up"
