"""``flowobs agent``: the options, checked, as an AgentConfig."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import click

from flowobs.agent.config import AgentConfig
from flowobs.cli import address
from flowobs.cli.command import Command, Decimal, Number
from flowobs.cli.errors import CliError
from flowobs.cli.options import Decorator, option, options

DEFAULT = AgentConfig()
OBSERVE, NAMES, SEND = "What to observe", "Names", "Where to send records"
FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


def _relay(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not (value.startswith("unix://") and Path(value.removeprefix("unix://")).is_absolute()):
        address.split(value)
    return value


def loader() -> Decorator:
    return option(
        OBSERVE,
        "--loader",
        type=click.Choice(["auto", "core", "bcc"]),
        default=DEFAULT.loader,
        show_default=True,
        help="Prebuilt probes (core), compiled on this machine (bcc), or what works.",
    )


def interfaces() -> Decorator:
    return options(
        option(
            OBSERVE,
            "--interface",
            multiple=True,
            metavar="GLOB",
            help="Only interfaces with such a name; may be repeated. Default: all.",
        ),
        option(
            OBSERVE,
            "--exclude-interface",
            multiple=True,
            metavar="GLOB",
            help="Not interfaces with such a name; may be repeated.",
        ),
    )


def names() -> Decorator:
    return options(
        option(
            NAMES,
            "--inventory",
            type=FILE,
            metavar="FILE",
            help="YAML file that names addresses (docs/identity.md).",
        ),
        option(
            NAMES,
            "--identity",
            type=click.Choice(["relay", "kubernetes", "host", "none"]),
            default=DEFAULT.identity,
            show_default=True,
            help="host: name this machine's addresses and sockets; relay: also those of the "
            "cluster that the relay watches, if any; kubernetes: the same by a watch of our own.",
        ),
        option(
            NAMES,
            "--kubeconfig",
            type=FILE,
            metavar="FILE",
            help="How to reach the cluster. Default: as a pod of it.",
        ),
        option(
            NAMES,
            "--cluster-name",
            metavar="NAME",
            default=DEFAULT.cluster_name,
            help="What to call the cluster. Default: as the kubeconfig does; in a pod: nothing.",
        ),
    )


def metrics() -> Decorator:
    return click.option(
        "--metrics",
        metavar="ADDR",
        callback=address.checked,
        default=DEFAULT.metrics,
        show_default=True,
        help="Serve the agent's /metrics and /healthz here.",
    )


@click.command(cls=Command)
@options(
    loader(),
    option(
        OBSERVE,
        "--netns",
        metavar="NETNS",
        default=DEFAULT.netns,
        help="Network namespace, by path or by its name in /run/netns. Default: the current one.",
    ),
    interfaces(),
    option(
        OBSERVE,
        "--attach",
        type=click.Choice(["auto", "tcx", "clsact"]),
        default=DEFAULT.attach,
        show_default=True,
        help="How probes get on an interface: as a TCX link, a clsact filter, or what works.",
    ),
    option(
        OBSERVE,
        "--cgroup",
        type=click.Path(exists=True, file_okay=False),
        metavar="PATH",
        default=DEFAULT.cgroup or None,
        help="cgroup v2 folder below which socket owners are noted. Default: the root.",
    ),
    option(
        OBSERVE,
        "--drain-interval",
        type=Decimal(0.1, 60),
        metavar="SECONDS",
        default=DEFAULT.drain_interval,
        show_default=True,
        help="How often counters are read from the kernel.",
    ),
    option(
        OBSERVE,
        "--flow-entries",
        type=Number(256, 1 << 24),
        metavar="N",
        default=DEFAULT.flow_entries,
        show_default=True,
        help="Room for flows that are active between two reads; more are counted as overflow.",
    ),
    option(
        NAMES,
        "--node",
        metavar="NAME",
        default=DEFAULT.node,
        help="Name of this node. Default: the host name.",
    ),
    names(),
    option(
        SEND,
        "--relay",
        metavar="TARGET",
        callback=_relay,
        default=DEFAULT.relay,
        show_default=True,
        help="host:port or unix:///path of the relay.",
    ),
    option(SEND, "--tls-ca", type=FILE, metavar="FILE", help="CA that the relay's name is from."),
    option(SEND, "--tls-cert", type=FILE, metavar="FILE", help="Certificate of this agent."),
    option(SEND, "--tls-key", type=FILE, metavar="FILE", help="Key of that certificate."),
    option(
        SEND, "--insecure", is_flag=True, help="Send records unencrypted to another machine, too."
    ),
    option(
        SEND,
        "--spool-dir",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="PATH",
        help="Keep records on disk here when the relay is away for longer than memory lasts.",
    ),
    option(
        SEND,
        "--spool-mb",
        type=Number(16, 1 << 20),
        metavar="N",
        default=DEFAULT.spool_mb,
        show_default=True,
        help="Disk to use there, in MiB.",
    ),
    metrics(),
    click.option("--log-json", is_flag=True, help="Write the log as lines of JSON."),
)
def agent(**given: Any) -> None:
    """Observe this machine and send flow records to a relay. Needs root.

    Every option can be given in the environment, too: --drain-interval is
    FLOWOBS_AGENT_DRAIN_INTERVAL.
    """
    config = AgentConfig(
        interfaces=given.pop("interface"),
        exclude_interfaces=given.pop("exclude_interface"),
        cgroup=given.pop("cgroup") or "",
        **given,
    )
    _check(config)
    run(config)


def _check(config: AgentConfig) -> None:
    for name in ("kubeconfig", "cluster_name"):
        if getattr(config, name) and config.identity != "kubernetes":
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} is for --identity kubernetes: give both.")
    tls = config.tls_ca or config.tls_cert or config.tls_key
    if (config.tls_cert is None) != (config.tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together: give both.")
    if config.tls_cert and not config.tls_ca:
        raise click.UsageError("--tls-cert is for a relay with TLS: give its --tls-ca, too.")
    if tls and config.insecure:
        raise click.UsageError("--insecure and TLS exclude each other: leave out one.")
    if not tls and not config.insecure and not address.is_local(config.relay):
        raise click.UsageError(
            f"The relay {config.relay} is another machine: give --tls-ca, or --insecure to send "
            "records unencrypted."
        )
    _check_certificates(config)


def _check_certificates(config: AgentConfig) -> None:
    """gRPC would only say, again and again, that a handshake failed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if config.tls_ca:
            context.load_verify_locations(config.tls_ca)
    except OSError as error:
        raise click.UsageError(
            f"--tls-ca {config.tls_ca} holds no certificate; give a PEM file."
        ) from error
    try:
        if config.tls_cert:
            context.load_cert_chain(config.tls_cert, config.tls_key, password="")
    except OSError as error:
        raise click.UsageError(
            f"--tls-cert {config.tls_cert} and --tls-key {config.tls_key} do not go together; give "
            "a PEM certificate and its own unencrypted key."
        ) from error


def run(config: AgentConfig) -> None:
    from flowobs.agent import agent as running
    from flowobs.agent.loader import LoadError
    from flowobs.identity.inventory_file import InventoryError
    from flowobs.kubernetes.access import AccessError

    try:
        running.run(config)
    except running.ConfigError as error:
        raise click.UsageError(str(error)) from error
    except AccessError as error:
        raise click.UsageError(str(error)) from error
    except InventoryError as error:
        raise click.BadParameter(str(error), param_hint="'--inventory'") from error
    except LoadError as error:
        raise CliError(str(error)) from error
    except OSError as error:  # its text begins with the number
        where = f"{error.filename}: " if error.filename else ""
        raise CliError(f"{where}{error.strerror or error}") from error
