"""The ``flows`` command: watch flows, list them, map them, measure them."""

from __future__ import annotations

import difflib
import io
import sys
import time
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from flowobs import __version__
from flowobs.cli import options
from flowobs.cli.command import CONTEXT, Argument, Command, write_sections
from flowobs.cli.text import clean, plural

if TYPE_CHECKING:
    from flowobs.cli.client import Relay

TICK_S = 0.25
QUIET_S = 3.0
"""After such a silence of a tail somebody wonders why."""
DEFAULT_LAST = 100
DEFAULT_LAST_SINCE = 10_000
"""With --since on a terminal; a pipe gets all."""
FORMATS = ("compact", "wide", "json", "csv", "arrow")
MEDIA = {"csv": "text/csv", "arrow": "application/vnd.apache.arrow.stream"}


class Flows(click.Group):
    """``flows --last 20`` and ``flows QUERY`` are tails: what does not begin with a command is."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = self._command_first(args)
        if self._is_tail(ctx, args):
            args = ["tail", *args]
        return super().parse_args(ctx, args)

    def _command_first(self, args: list[str]) -> list[str]:
        """``--server URL status`` is ``status --server URL``: the demo prints the first half."""
        at = 0
        while at < len(args) and args[at].partition("=")[0] == "--server":
            at += 1 if "=" in args[at] else 2
        if 0 < at < len(args) and args[at] in self.commands:
            return [args[at], *args[:at], *args[at + 1 :]]
        return args

    def _is_tail(self, ctx: click.Context, args: list[str]) -> bool:
        if not args:
            return not ctx.resilient_parsing
        first = args[0]
        if first in self.commands or first in (*ctx.help_option_names, "--version"):
            return False
        if ctx.resilient_parsing:
            return first.startswith("-")
        close = difflib.get_close_matches(first, self.commands, 1, 0.8)
        if close and not first.startswith("-"):
            raise click.UsageError(
                f"No such command '{first}'. Did you mean 'flows {close[0]}'? "
                f"To look for the word, write: flows tail {first}",
                ctx,
            )
        return True

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            found += self.commands["tail"].shell_complete(ctx, incomplete)
        return found

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        params = {p.name: p for p in (*self.commands["tail"].params, *self.get_params(ctx))}
        write_sections(params.values(), ctx, formatter)


@click.group(
    cls=Flows,
    context_settings=CONTEXT,
    subcommand_metavar="[COMMAND] [QUERY]...",
    epilog=options.EXAMPLES,
)
@click.version_option(__version__, message="flows %(version)s")
def flows() -> None:
    """Shows who talks to whom: 'flows' alone follows live, with --last or --since it looks back.

    On a terminal a flow is a line, in a pipe it is a line of JSON.
    """


@flows.command(epilog=options.EXAMPLES)
@options.options(
    options.question,
    options.follow,
    options.last,
    options.first,
    options.order,
    options.since(),
    options.until,
    options.fail_empty,
    options.filters,
    options.output_format(*FORMATS),
    options.fields,
    options.color,
    options.server,
)
def tail(**given: Any) -> None:
    """Follow live, or look back (the default command)."""
    if given["q"] in flows.commands:
        raise click.UsageError(
            f"'{given['q']}' is a command. Write a command first: flows {given['q']} ...; "
            f"to look for the word, quote it: '\"{given['q']}\"'"
        )
    looks_back = any(given[name] for name in ("last", "first", "since", "until", "newest_first"))
    if given["follow"] or not looks_back:
        if given["output"] in MEDIA:
            raise click.UsageError(
                f"--output {given['output']} has an end: add --since, --last or --first."
            )
        if given["first"] or given["newest_first"]:
            raise click.UsageError(
                "--follow goes on with newer records: leave out --first and --newest-first."
            )
        if given["until"]:
            raise click.UsageError("--follow has no end: leave out --until or --follow.")
        if given["fail_empty"]:
            raise click.UsageError("--fail-empty needs an end: add --last or --since.")
        _follow(given)
    else:
        _look_back(given)


@flows.command("list", epilog=options.EXAMPLES)
@options.options(
    options.question,
    options.last,
    options.first,
    options.order,
    options.since(),
    options.until,
    options.fail_empty,
    options.filters,
    options.output_format(*FORMATS),
    options.fields,
    options.color,
    options.server,
)
def list_(**given: Any) -> None:
    """Records of the past."""
    _look_back(given)


def _look_back(given: dict[str, Any]) -> None:
    from flowobs.cli.errors import Interrupted

    try:
        _print_past(given)
    except Interrupted as error:
        raise Interrupted(f"{error.message} What came is not all: ask again.") from error


def _print_past(given: dict[str, Any]) -> None:
    from flowobs.cli.client import Relay
    from flowobs.cli.errors import NothingFound
    from flowobs.cli.output import Printer

    if given["first"] and given["last"]:
        raise click.UsageError("--first and --last exclude each other: leave out one.")
    relay, asked = Relay(given["server"]), options.query(given)
    if given["output"] in MEDIA:
        _export(relay, asked, given)
        return
    printer = Printer(given["output"], given["fields"], given["color"])
    if given["first"] is None and given["last"] is None:
        if not given["since"]:
            asked["last"] = DEFAULT_LAST
        elif sys.stdout.isatty() and given["output"] != "json":
            asked["last"] = DEFAULT_LAST_SINCE
    seen = 0
    for rows in relay.records(asked):
        seen += len(rows)
        printer.rows(rows)
    if relay.note:
        printer.note(relay.note)
    if relay.more and asked.get("last") == DEFAULT_LAST_SINCE != given["last"]:
        printer.note(f"these are the newest {seen:,} records; --last or --until shows older ones")
    if printer.elsewhere:
        printer.note(
            f"{plural(printer.elsewhere, 'record')} of the same flows from other interfaces not "
            "shown; -o wide shows all"
        )
    if not printer.matched and given["fail_empty"]:
        raise NothingFound("No record matches. Widen --since or drop a filter.")
    if not seen:
        printer.note("no record matches")


def _export(relay: Relay, asked: dict[str, Any], given: dict[str, Any]) -> None:
    if given["output"] == "arrow" and sys.stdout.isatty():
        raise click.UsageError("--output arrow is not for a terminal: write it into a file with >.")
    if given["fail_empty"]:
        raise click.UsageError("--fail-empty needs --output json, compact or wide.")
    if given["fields"]:
        asked["fields"] = ",".join(given["fields"])
    for data in relay.raw(asked, MEDIA[given["output"]]):
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    if relay.note:
        click.echo(f"-- {clean(relay.note)} --", err=True)


def _follow(given: dict[str, Any]) -> None:
    from flowobs.cli.client import Relay
    from flowobs.cli.follow import follow, nobody_tells, ticking
    from flowobs.cli.output import LINES_PER_S, Printer

    printer = Printer(
        given["output"], given["fields"], given["color"], LINES_PER_S, given["last"] or 0
    )
    heard, asked = time.monotonic(), False
    try:
        for rows in ticking(follow(Relay(given["server"]), options.query(given)), TICK_S):
            if isinstance(rows, str):
                printer.note(rows)
            else:
                printer.rows(rows or [])
            if rows:
                heard, asked = time.monotonic(), False
            elif not asked and time.monotonic() - heard > QUIET_S:
                asked = True
                if nobody_tells(Relay(given["server"])):
                    printer.note("no agent is connected, nothing new can come: flows status")
    finally:
        printer.tick(end=True)


@flows.command("map", epilog=options.EXAMPLES)
@options.options(
    options.question,
    options.since("5m"),
    options.until,
    options.namespace,
    options.by,
    options.output_format("tree", "json"),
    options.color,
    options.server,
)
def map_(output: str | None, color: str, server: str, **given: Any) -> None:
    """Who talked to whom, as a tree."""
    from flowobs.cli.client import Relay
    from flowobs.cli.map import show

    show(Relay(server).document("/api/v1/service-map", options.query(given)), output, color)


@flows.command(
    epilog=options.EXAMPLES, short_help="The most of a measure; with --new, of what is new."
)
@options.options(
    options.question,
    options.since("5m"),
    options.until,
    options.new,
    options.before("With --new: not seen this long before --since. Default: 7d."),
    options.filters,
    options.each(),
    options.by,
    options.measure,
    options.limit(10, 1000),
    options.output_format("table", "csv", "json"),
    options.color,
    options.server,
)
def top(output: str | None, color: str, server: str, **given: Any) -> None:
    """The most of a measure: talkers, droppers, the slowest; with --new of what is new."""
    from flowobs.cli.client import Relay
    from flowobs.cli.top import print_top

    if given["before"] and not given["new"]:
        raise click.UsageError("--before says how far back to look for what is new: add --new.")
    print_top(Relay(server).document("/api/v1/top", options.query(given)), output, color)


@flows.command(epilog=options.EXAMPLES)
@options.options(
    options.question,
    options.since("1h"),
    options.until,
    options.filters,
    options.each("total"),
    options.by,
    options.measure,
    options.step,
    options.limit(5, 20),
    options.output_format("spark", "csv", "json"),
    options.color,
    options.server,
)
def series(output: str | None, color: str, server: str, **given: Any) -> None:
    """A measure over time: of all, or of the largest and the rest."""
    from flowobs.cli.client import Relay
    from flowobs.cli.series import print_series

    found = Relay(server).document("/api/v1/timeseries", options.query(given))
    print_series(found, output, color)


@flows.command(
    epilog=options.EXAMPLES,
    short_help="What changed: new and vanished edges, other rates, trouble.",
)
@options.options(
    options.question,
    options.since("1h"),
    options.until,
    options.before(
        "How long the time before --since is. Default: as long as what it is compared with."
    ),
    options.against,
    options.filters,
    options.each(),
    options.by,
    options.limit(50, 1000),
    options.output_format("text", "csv", "json"),
    options.color,
    options.server,
)
def diff(output: str | None, color: str, server: str, **given: Any) -> None:
    """What changed: new and vanished edges, other rates, more trouble, slower answers."""
    from flowobs.cli.client import Relay
    from flowobs.cli.diff import print_diff

    print_diff(Relay(server).document("/api/v1/diff", options.query(given)), output, color)


@flows.command(short_help="What the relay is, holds and misses.")
@options.options(options.output_format("text", "json"), options.color, options.server)
def status(output: str | None, color: str, server: str) -> None:
    """What the relay is, holds and misses; exit code 1 when its store is not healthy."""
    from flowobs.cli.client import Relay
    from flowobs.cli.status import show

    show(server, Relay(server).document("/api/v1/status", {}), output, color)


@flows.command(short_help="The fields of a record.")
@options.options(options.output_format("table", "json"), options.color)
def fields(output: str | None, color: str) -> None:
    """The fields of a record: for questions (field:value), --fields and JSON."""
    from flowobs.cli.fields import show

    show(output, color)


@flows.command(short_help="Who an address, a name or a socket is or was.")
@click.argument(
    "who",
    cls=Argument,
    section="Question",
    about="An address, a name such as shop/web-0, or a socket's cookie (fields src_cookie, ...).",
)
@options.options(
    options.option(
        options.SELECTION,
        "--at",
        metavar="TIME",
        help="As of then: 30s, 5m, 2h, 1d ago, or 2026-11-22T10:00:00Z. Default: now.",
    ),
    options.option(
        options.SELECTION,
        "--since",
        metavar="TIME",
        help="Look at records from then on, written like --at. Default: from a day before --at.",
    ),
    options.output_format("text", "json"),
    options.color,
    options.server,
    click.option(
        "--agent",
        callback=options.url,
        metavar="URL",
        help="Ask an agent (its --metrics address) what it knows, instead of the relay's records.",
    ),
)
def whois(
    who: str,
    at: str | None,
    since: str | None,
    output: str | None,
    color: str,
    server: str,
    agent: str | None,
) -> None:
    """Who an address, a name or a socket is or was, who says so, and why others were not believed.

    A star marks what holds at that time. Exit code 3 when nobody knows.
    """
    from flowobs.cli.whois import ask, show

    if agent and since:
        raise click.UsageError("--since is about the relay's records: leave it out with --agent.")
    params = {"q": who} | ({"at": at} if at else {}) | ({"since": since} if since else {})
    show(ask(server, agent, params), output, color, agent)


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that cannot show a name
    flows(prog_name="flows")


if __name__ == "__main__":
    main()
