"""`flowobs demo`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import FrameType

import click

from flowobs.cli.command import Command, Number
from flowobs.cli.errors import CliError
from flowobs.cli.processes import Processes, flows_program, python
from flowobs.demo import expect, leftovers, run

SETTLE_S = 10.0
"""How long after the run the last records may take to be in the store."""
POLL_S = 0.5

PROGRAMS = {
    "bridge": "iproute2",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "nginx": "nginx-light",
    "redis-server": "redis-server",
    "dnsmasq": "dnsmasq-base",
}
"""Program: the Debian package that has it."""


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})(s|m|h|)", value)
    if not found or not int(found[1]):
        raise click.BadParameter(f"'{value}' is no time, write it like 20s or 5m.")
    return float(int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]])


@click.command(cls=Command)
@click.option(
    "--for",
    "seconds",
    metavar="TIME",
    callback=_seconds,
    help="Run this long (20s, 5m), print the service map, and check that no edge is missing.",
)
@click.option(
    "--loader",
    type=click.Choice(["auto", "core", "bcc"]),
    default="auto",
    show_default=True,
    help="How the agent loads its probes.",
)
@click.option(
    "--http",
    type=Number(1, 65535),
    metavar="PORT",
    default=run.PORTS["http"],
    show_default=True,
    help="Port of web map and API; the next free one if it is taken.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another one, other traffic.")
def demo(seconds: float | None, loader: str, http: int, seed: int) -> None:
    """Watch a small shop: real servers and clients in network namespaces of their own.

    Without --for it goes on, showing flows, until Ctrl-C. Either way nothing of it stays.
    """
    require()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    with leftovers.lock():
        if leftovers.clean():
            click.echo("removed what an earlier demo had left")
        started = time.monotonic()
        folder = leftovers.folder()
        options = run.Options(loader=loader, http=http, seed=seed)
        this = run.Demo(options, folder, Processes(folder))
        try:
            this.start()
            click.echo(f"the demo is up after {time.monotonic() - started:.1f} s")
            introduce(this)
            if seconds is None:
                show(this)
            else:
                check(this, seconds)
        except KeyboardInterrupt:
            if seconds is not None:
                raise
            click.echo("stopping")
        finally:
            _finish(this)


def require() -> None:
    if os.geteuid() != 0:
        raise CliError("The demo makes network namespaces, which only root may. Use sudo.")
    missing = sorted({package for name, package in PROGRAMS.items() if not shutil.which(name)})
    if missing:
        raise CliError(
            f"Programs of the demo are missing. Install them: apt-get install {' '.join(missing)}"
        )
    run.require_relay()


def introduce(this: run.Demo) -> None:
    for name, port in this.wanted.items():
        if this.ports[name] != port:
            click.echo(f"port {port} is taken, so {name} is on {this.ports[name]}")
    click.echo(f"  web map  {this.url}/")
    click.echo(f"  API      {this.url}/api/v1/service-map")
    click.echo(f"  command  {flows_program()} --server {this.url}")


def show(this: run.Demo) -> None:
    """Live flows in this terminal, until Ctrl-C."""
    # not one of this.processes: it has the terminal; but it must not outlive us either
    command = ["setpriv", "--pdeathsig", "TERM", *python("flowobs.cli.flows"), "--server", this.url]
    with subprocess.Popen(command, preexec_fn=_ignore_interrupt) as flows:
        try:
            while flows.poll() is None:
                this.processes.check()
                time.sleep(POLL_S)
        finally:
            flows.terminate()


def check(this: run.Demo, seconds: float) -> None:
    """Lets it run, prints the map, and says what is missing on it."""
    from flowobs.cli.map import tree

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        this.processes.check()
        time.sleep(min(POLL_S, max(0.0, end - time.monotonic())))
    expected = expect.edges()
    end = time.monotonic() + SETTLE_S
    while problems := expect.problems(found := this.service_map(), expected):
        if time.monotonic() > end:
            break
        time.sleep(POLL_S)
    click.echo("\n".join(tree(found["edges"], color=sys.stdout.isatty())))
    if not problems:
        click.echo(f"all {len(expected)} expected edges were seen, with the right names")
        return
    for problem in problems:
        click.echo(problem, err=True)
    raise CliError("The map differs from what the workload did. See above, and try a longer --for.")


def _ignore_interrupt() -> None:
    """Ctrl-C reaches all of the terminal; one that is still starting would say so at length."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _finish(this: run.Demo) -> None:
    """Cleans up, whatever is pressed meanwhile."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    this.stop()
