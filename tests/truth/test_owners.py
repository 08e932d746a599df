"""Process ids and command names of both ends are those of /proc."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.lab import V4, V6, Lab, stack
from tests.truth.conftest import TALK
from tests.truth.kernel import Watch

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@contextmanager
def talking(
    lab: Lab, kind: str, address: str, port: int = 7000, flows: int = 1
) -> Iterator[subprocess.Popen[str]]:
    """A client that holds flows open; ``more`` has it send again."""
    words = (TALK, "hold", kind, address, str(port), str(flows))
    process = subprocess.Popen(
        ["ip", "netns", "exec", lab.ns("a"), sys.executable, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def more(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"


def test_clients_and_servers_before_and_after_the_agent() -> None:
    """Half of the flows began before the agent, the accepted sockets among them."""
    ends = [(kind, table["b"]) for kind in ("tcp", "udp") for table in (V4, V6)]
    with Lab() as lab, ExitStack() as clients:
        servers = {}
        for address in (V4["b"], V6["b"]):
            server = lab.start("b", sys.executable, TALK, "server", address, "7000")
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            servers[address] = server.pid
        old = [clients.enter_context(talking(lab, *end)) for end in ends]
        with stack(lab) as flowobs:
            watch = Watch(lab, flowobs)
            new = [clients.enter_context(talking(lab, *end)) for end in ends]
            truth = {
                (*end, process.pid, command(process.pid), servers[end[1]], command(servers[end[1]]))
                for end, process in (*zip(ends, old, strict=True), *zip(ends, new, strict=True))
            }
            assert {row[3] for row in truth} == {"talk-hold"}

            def told() -> set[tuple[object, ...]]:
                """What the last record of each flow and reporter says."""
                for process in (*old, *new):
                    more(process)
                watch.read()
                last = {}
                for r in sorted(watch.select(kind="update"), key=lambda r: str(r["time"])):
                    owners = [r.get(f"{e}_{w}") for e in ("src", "dst") for w in ("pid", "process")]
                    end = (r["proto"], r["dst_ip"])
                    last[(*end, r["src_port"], r["reporter"])] = (*end, *owners)
                assert {key[3] for key in last} == {"source", "destination"}
                return set(last.values())

            end = time.monotonic() + 60  # accepted sockets are looked for again after 0.5 and 2 s
            while (last_told := told()) != truth and time.monotonic() < end:
                pass
            assert last_told == truth
