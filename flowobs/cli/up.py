"""``flowobs up``: relay and agent for this machine, until Ctrl-C."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import click

from flowobs.agent.config import AgentConfig
from flowobs.cli import address
from flowobs.cli.agent import interfaces, loader, metrics, names
from flowobs.cli.client import Relay
from flowobs.cli.command import Command
from flowobs.cli.errors import CliError, Unavailable, Unreachable
from flowobs.cli.options import option, options
from flowobs.cli.processes import Processes, flows_program, python

START_S = 60.0
"""BCC compiles for some seconds on a slow machine, and a large store takes its time to open."""
POLL_S = 0.2
RELAY_PACKAGES = ("chdb", "clickhouse_connect", "fastapi", "uvicorn")
RELAY = "Relay"


@click.command(cls=Command)
@options(
    option(
        RELAY,
        "--http",
        metavar="ADDR",
        callback=address.checked,
        default="127.0.0.1:8080",
        show_default=True,
        help="Web map and API.",
    ),
    option(
        RELAY,
        "--listen",
        metavar="ADDR",
        callback=address.checked,
        default=AgentConfig().relay,
        show_default=True,
        help="Where the relay takes agents, this one and others.",
    ),
    option(RELAY, "--store", metavar="URL", help="Where records are kept. Default: the relay's."),
    option(
        RELAY,
        "--retention",
        metavar="TIMES",
        help="How long: 12h, or flows=3d,1m=30d. Default: the relay's.",
    ),
    option(
        RELAY,
        "--max-disk",
        metavar="SIZE",
        help="Forget the oldest records early where the store is larger than this: 20GB.",
    ),
    option(
        RELAY, "--insecure", is_flag=True, help="Let other machines reach the relay unencrypted."
    ),
    loader(),
    interfaces(),
    names(),
    metrics(),
)
def up(**given: Any) -> None:
    """Observe this machine: start relay and agent, and stop them at Ctrl-C. Needs root."""
    if os.geteuid() != 0:
        command = shlex.join([str(Path(sys.argv[0]).absolute()), *sys.argv[1:]])
        raise CliError(f"Loading probes into the kernel needs root: sudo {command}")
    if missing := [name for name in RELAY_PACKAGES if find_spec(name) is None]:
        raise CliError(
            f"The relay's packages are not installed ({', '.join(missing)}): "
            f"{sys.executable} -m pip install 'flowobs[relay]'"
        )
    if (given["kubeconfig"] or given["cluster_name"]) and given["identity"] in ("host", "none"):
        raise click.UsageError(
            f"--kubeconfig and --cluster-name are for names from a cluster: leave out "
            f"--identity {given['identity']}."
        )
    for name in ("http", "listen", "metrics"):
        address.require_free(f"--{name}", given[name])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with tempfile.TemporaryDirectory(prefix="flowobs-up-") as folder:
        processes = Processes(Path(folder))
        try:
            run(processes, given)
        except KeyboardInterrupt:
            click.echo("stopping")
        finally:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)  # twice is not sooner
            processes.stop()


def run(processes: Processes, given: dict[str, Any]) -> None:
    url, relay = web_url(given["http"]), Relay(web_url(given["http"]))
    processes.start("relay", relay_command(given))
    wait(processes, "relay", lambda: relay.document("/api/v1/status", {})["store"]["healthy"])
    processes.start("agent", agent_command(given))
    wait(processes, "agent", lambda: _connected(relay.document("/api/v1/status", {})["agents"]))
    click.echo(f"  web map  {url}/")
    click.echo(f"  API      {url}/api/v1/flows")
    click.echo(f"  command  {flows_program()} --server {url}")
    click.echo(f"  metrics  {url}/metrics and {web_url(given['metrics'])}/metrics")
    click.echo(f"  logs     {processes.log('relay')} and {processes.log('agent')}")
    click.echo("Ctrl-C stops relay and agent.")
    while True:
        processes.check()
        time.sleep(POLL_S)


def relay_command(given: dict[str, Any]) -> list[str]:
    command = [*python("relay"), f"--http={given['http']}", f"--listen={given['listen']}"]
    kept = {"store": "store", "retention": "retention", "max-disk": "max_disk"}
    command += [f"--{name}={given[key]}" for name, key in kept.items() if given[key]]
    command += _cluster(given, "kubernetes") if given["identity"] == "relay" else []
    return [*command, "--insecure"] if given["insecure"] else command


def agent_command(given: dict[str, Any]) -> list[str]:
    command = [*python("flowobs.cli.flowobs"), "agent", f"--relay={_reachable(given['listen'])}"]
    command += [f"--{name}={given[name]}" for name in ("loader", "identity", "metrics")]
    command += [f"--interface={glob}" for glob in given["interface"]]
    command += [f"--exclude-interface={glob}" for glob in given["exclude_interface"]]
    command += [f"--inventory={given['inventory']}"] if given["inventory"] else []
    return command + (_cluster(given, "kubeconfig") if given["identity"] == "kubernetes" else [])


def _cluster(given: dict[str, Any], kubeconfig: str) -> list[str]:
    """The cluster's options for whoever watches it; ``kubeconfig`` is what that calls the file."""
    options = {kubeconfig: given["kubeconfig"], "cluster-name": given["cluster_name"]}
    return [f"--{name}={value}" for name, value in options.items() if value]


def wait(processes: Processes, name: str, ready: Callable[[], bool]) -> None:
    """Until ``ready`` says so. Raises CliError when the process ends, or takes too long."""
    click.echo(f"starting the {name}")
    end = time.monotonic() + START_S
    while True:
        processes.check()
        try:
            if ready():
                return
        except (Unreachable, Unavailable):
            pass
        if time.monotonic() > end:
            raise CliError(
                f"The {name} was not ready in {START_S:.0f} s.{processes.last_lines(name)}"
            )
        time.sleep(POLL_S)


def web_url(text: str) -> str:
    return f"http://{_reachable(text)}"


def _reachable(text: str) -> str:
    """An address to connect to, for one to listen on."""
    host, port = address.split(text)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _connected(agents: list[dict[str, Any]]) -> bool:
    return any(agent["connected"] for agent in agents)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
