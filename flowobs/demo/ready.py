"""Free ports, and waiting until something answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from flowobs.agent import netns
from flowobs.cli.errors import CliError
from flowobs.cli.processes import Processes
from flowobs.demo import network, servers

PORTS_TRIED = 100
PAUSE_S = 0.05
START_S = 60.0
"""BCC compiles for some seconds on a slow machine."""


def free_ports(wanted: dict[str, int]) -> dict[str, int]:
    """For each name the port wanted for it on 127.0.0.1, or the next one that is free."""
    found: dict[str, int] = {}
    for name, first in wanted.items():
        candidates = range(first, min(first + PORTS_TRIED, 1 << 16))
        port = next((p for p in candidates if p not in found.values() and is_free(p)), None)
        if port is None:
            raise CliError(f"No port of 127.0.0.1 is free from {first} on. Stop what has them.")
        found[name] = port
    return found


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # as servers do: a connection of an earlier run that lingers does not count
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait(processes: Processes, name: str, answers: Callable[[], bool]) -> None:
    """Until it answers. Raises CliError when a process ends or this one takes too long."""
    deadline = time.monotonic() + START_S
    while not answers():
        processes.check()
        if time.monotonic() > deadline:
            raise CliError(
                f"{name} did not answer within {START_S:.0f} s.{processes.last_lines(name)}"
            )
        time.sleep(PAUSE_S)


def listens(job: servers.Job) -> bool:
    """Whether the server answers, asked from inside its pod: nobody else sees that packet."""
    path = str(network.NETNS_FOLDER / job.host.netns)
    return netns.call(path, lambda: _connects(job.host.v4, job.listens))


def _connects(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), 1.0):
            return True
    except OSError:
        return False
