"""One run of the demo: everything up, everything away again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flowobs.cli.client import Relay
from flowobs.cli.errors import CliError, Unavailable, Unreachable
from flowobs.cli.processes import Processes, python
from flowobs.cli.up import RELAY_PACKAGES
from flowobs.demo import inventory, leftovers, network, plan, ready, servers

PORTS = {"http": 8080, "listen": 4243, "metrics": 9465}

GRACE_S = 2.0
"""Nothing of the demo stays, so nothing has to be saved: who is slow to end is killed."""


@dataclass(frozen=True, slots=True)
class Options:
    loader: str = "auto"
    http: int = PORTS["http"]
    seed: int = 1


@dataclass(slots=True)
class Demo:
    """From `start` to `stop` the workload runs, and is being watched."""

    options: Options
    folder: Path
    processes: Processes
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def relay(self) -> Relay:
        return Relay(self.url)

    @property
    def wanted(self) -> dict[str, int]:
        return PORTS | {"http": self.options.http}

    def start(self) -> None:
        self.ports = ready.free_ports(self.wanted)
        self._start("relay", self.relay_command())  # the slowest to come up
        network.build()
        (self.folder / "inventory.yaml").write_text(inventory.text())
        servers.write_files(self.folder)
        jobs = servers.servers(self.folder)
        for job in jobs:
            self._start(job.name, servers.inside(job.host, self.folder, job.command))
        self._wait("relay", self._relay_healthy)
        self._start("agent", self.agent_command())
        for job in jobs:
            self._wait(job.name, partial(ready.listens, job))
        self._wait("agent", self._agent_connected)
        for job in servers.clients(self.options.seed):
            self._start(job.name, servers.inside(job.host, self.folder, job.command))

    def stop(self) -> None:
        self.processes.stop(GRACE_S)
        leftovers.clean()

    def relay_command(self) -> list[str]:
        return [
            *python("relay"),
            f"--store=chdb://{self.folder}/store",
            f"--listen=127.0.0.1:{self.ports['listen']}",
            f"--http=127.0.0.1:{self.ports['http']}",
        ]

    def agent_command(self) -> list[str]:
        return [
            *python("flowobs.cli.flowobs"),
            "agent",
            f"--relay=127.0.0.1:{self.ports['listen']}",
            f"--netns={plan.NODE_NS}",
            f"--node={plan.NODE}",
            f"--inventory={self.folder}/inventory.yaml",
            "--identity=none",
            f"--metrics=127.0.0.1:{self.ports['metrics']}",
            f"--loader={self.options.loader}",
        ]

    def service_map(self) -> dict[str, Any]:
        """Of the whole run: the store is this run's own."""
        return self.relay.document("/api/v1/service-map", {"since": "1d"})

    def _start(self, name: str, command: list[str]) -> None:
        self.processes.start(name, command)
        leftovers.note(self.folder, self.processes.pids())

    def _wait(self, name: str, answers: Callable[[], bool]) -> None:
        ready.wait(self.processes, name, answers)

    def _relay_healthy(self) -> bool:
        return bool(self._status("store").get("healthy"))

    def _agent_connected(self) -> bool:
        return any(agent["connected"] for agent in self._status("agents"))

    def _status(self, part: str) -> Any:
        try:
            return self.relay.document("/api/v1/status", {})[part]
        except (Unreachable, Unavailable):
            return {}


def require_relay() -> None:
    """Raises `CliError` where this installation has no relay."""
    if any(find_spec(name) is None for name in RELAY_PACKAGES):
        raise CliError("The demo needs the relay's packages. Install 'flowobs[relay]'.")
