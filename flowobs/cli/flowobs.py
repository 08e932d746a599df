"""The ``flowobs`` command: what runs on machines."""

from __future__ import annotations

import click

from flowobs import __version__
from flowobs.cli.command import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "up": ("flowobs.cli.up:up", "Observe this machine: relay and agent, until Ctrl-C."),
        "agent": ("flowobs.cli.agent:agent", "Observe this machine for a relay elsewhere."),
        "doctor": ("flowobs.cli.doctor:doctor", "What works on this machine, and what does not."),
        "demo": ("flowobs.demo.cli:demo", "A small shop with traffic, to look around."),
    },
)
@click.version_option(__version__, message="flowobs %(version)s")
def flowobs() -> None:
    """Network observability from the kernel: who talks to whom, and what is lost on the way.

    The 'flows' command shows what has been observed.
    """


def main() -> None:
    flowobs(prog_name="flowobs", auto_envvar_prefix="FLOWOBS")


if __name__ == "__main__":
    main()
