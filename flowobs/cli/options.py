"""Options that several commands of ``flows`` share, by the headings of their help."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import click

from flowobs import schema
from flowobs.cli.command import Argument, Number, Option
from flowobs.measures import DIMENSIONS, MEASURES

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
FILTERS = ("namespace", "pod", "port", "verdict", "kind", "proto", "reporter")
GROUPS = (
    "pod", "workload", "service", "namespace", "node", "zone", "cluster", "process", "address",
)  # fmt: skip
MEASURED = ("by", "measure", "limit", "step", "before", "against", "new")
DEFAULT_SERVER = "http://127.0.0.1:8080"


def _fields(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str]:
    names = [name.strip() for name in value.split(",")] if value is not None else []
    for name in names:
        if name not in schema.BY_NAME:
            close = difflib.get_close_matches(name, schema.BY_NAME, n=3)
            hint = f"Did you mean {' or '.join(close)}?" if close else "'flows fields' lists them."
            raise click.BadParameter(f"there is no field '{name}'. {hint}")
    return names


def url(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """An http or https address, checked."""
    return None if value is None else _server(ctx, param, value)


def _server(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not value.isprintable():
        raise click.BadParameter(f"{value!r} is no URL of a relay, write it like {DEFAULT_SERVER}.")
    return value


def options(*decorators: Decorator) -> Decorator:
    """Several decorators as one, in the order in which help shows them."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def option(section: str, *names: str, **kw: Any) -> Decorator:
    return click.option(*names, cls=Option, section=section, **kw)


def _question(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> str | None:
    return " ".join(value) or None


question = click.argument(
    "q",
    cls=Argument,
    section="Question",
    about="Like 'pod:shop/* and not port:53', see docs/query.md; filters below narrow it further.",
    nargs=-1,
    metavar="[QUERY]...",
    callback=_question,
)
"""Several words of the shell are one question."""
EXAMPLES = """\b
Questions (docs/query.md has the whole language):
  flows 'pod:shop/web-* and verdict:dropped'
  flows list --since 1h 'from:shop/web-0 to:10.0.0.0/8 port:443,8000-9000'
  flows list --since 1d 'kind:close (bytes>1MB or duration>5s) not ns:kube-*'
  flows map 'process:nginx or service:shop/api'
  flows top --new --by workload not ns:kube-*
  flows series --measure rtt_p95_ms to.service:shop/api
  flows redis                             a part of either end's name
"""

SELECTION = "Selection"
FILTER = "Filters (repeat one: any value matches; different ones: all must match)"
OUTPUT = "Output"

follow = option(
    SELECTION,
    "-f",
    "--follow",
    is_flag=True,
    help="Go on with live records. This is what 'flows' does when nothing else is selected.",
)


last = option(
    SELECTION,
    "--last",
    type=Number(min=1),
    metavar="N",
    help="The newest N records that match. Default: 100; with --since 10000 on a terminal, "
    "all of them in a pipe.",
)
first = option(
    SELECTION,
    "--first",
    type=Number(min=1),
    metavar="N",
    help="The oldest N records that match, of all that are kept or since --since.",
)
order = option(
    SELECTION,
    "--newest-first/--oldest-first",
    "newest_first",
    default=False,
    help="In which order they are shown. Default: oldest first, as in a log.",
)


def since(default: str | None = None) -> Decorator:
    return option(
        SELECTION,
        "--since",
        metavar="TIME",
        default=default,
        show_default=default is not None,
        help="Not older than this: 30s, 5m, 2h, 1d, or 2026-11-22T10:00:00Z.",
    )


until = option(
    SELECTION, "--until", metavar="TIME", help="Not newer than this, written like --since."
)
fail_empty = option(
    SELECTION, "--fail-empty", is_flag=True, help="Exit with code 3 when no record matches."
)
new = option(SELECTION, "--new", is_flag=True, help="Only what was not seen before --since.")
step = option(
    SELECTION,
    "--step",
    metavar="TIME",
    help="Length of a step: 10s, 1m, 1h. Default: such that there are 60 to 120.",
)


against = option(
    SELECTION,
    "--against",
    metavar="TIME",
    help="Compare with the same time so long ago, 1d or 7d, instead of with what came before.",
)


def before(help: str) -> Decorator:
    return option(SELECTION, "--before", metavar="TIME", help=help)


namespace = option(
    FILTER,
    "-n",
    "--namespace",
    multiple=True,
    metavar="NAME",
    help="Either end is in this namespace; * and ? are wildcards.",
)
filters = options(
    namespace,
    option(
        FILTER,
        "--pod",
        multiple=True,
        metavar="NAME",
        help="Either end has this name: web-0, shop/web-0, 'shop/web-*'.",
    ),
    option(
        FILTER,
        "--port",
        multiple=True,
        type=Number(0, 65535),
        metavar="PORT",
        help="Either end's port.",
    ),
    option(
        FILTER,
        "--verdict",
        multiple=True,
        type=click.Choice([v.name for v in schema.Verdict if v]),
        help="What became of the packet.",
    ),
    option(
        FILTER,
        "--kind",
        multiple=True,
        type=click.Choice([k.name for k in schema.Kind]),
        help="What happened.",
    ),
    option(
        FILTER,
        "--reporter",
        multiple=True,
        type=click.Choice([r.name for r in schema.Reporter if r]),
        help="The end it was seen for: two observed pods make a record each of their flow.",
    ),
    option(
        FILTER,
        "--proto",
        multiple=True,
        metavar="PROTO",
        help="IP protocol: tcp, udp, icmp, icmpv6, sctp or a number.",
    ),
)


def _groups(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in (*GROUPS, "label:") if name.startswith(incomplete)]


by = option(
    OUTPUT,
    "--by",
    "group",
    metavar="GROUP",
    shell_complete=_groups,
    help=f"Put ends together: {', '.join(GROUPS)}, or a label: label:app. Default: pod.",
)


def each(*more: str) -> Decorator:
    return option(
        OUTPUT,
        "--each",
        "by",
        type=click.Choice([*more, *DIMENSIONS]),
        default=(*more, *DIMENSIONS)[0],
        show_default=True,
        help="Whose numbers to show; an end is a source or a destination.",
    )


measure = option(
    OUTPUT,
    "--measure",
    type=click.Choice(MEASURES),
    default="bytes",
    show_default=True,
    help="What to measure; bytes, packets and rate (bytes a second) are both ways.",
)


def limit(default: int, most: int) -> Decorator:
    return option(
        OUTPUT,
        "--limit",
        type=Number(1, most),
        default=default,
        show_default=True,
        metavar="N",
        help="Show this many.",
    )


def output_format(*formats: str) -> Decorator:
    return option(
        OUTPUT,
        "-o",
        "--output",
        type=click.Choice(formats),
        help=f"Default: {formats[0]} on a terminal, json in a pipe."
        + (" csv and arrow (an IPC stream) have what is stored." if "arrow" in formats else ""),
    )


fields = option(
    OUTPUT,
    "--fields",
    callback=_fields,
    metavar="A,B,...",
    help="Show these fields only, in this order ('flows fields' lists them).",
)
color = option(
    OUTPUT,
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="auto: on a terminal; NO_COLOR and FORCE_COLOR are honoured.",
)
server = click.option(
    "--server",
    cls=Option,
    callback=_server,
    envvar="FLOWS_SERVER",
    default=DEFAULT_SERVER,
    show_default=True,
    show_envvar=True,
    metavar="URL",
    help="The relay to ask.",
)


def query(given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an API request: what of ``given`` was given."""
    names = ("q", *FILTERS, "since", "until", "first", "last", "group", *MEASURED)
    found = {name: given[name] for name in names if given.get(name) not in (None, (), False)}
    return found | ({"order": "newest"} if given.get("newest_first") else {})
