"""``flowobs doctor``: what works on this machine, and what is lost where something does not."""

from __future__ import annotations

import json
import sys

import click

from flowobs.agent.doctor import ProgramReport, Report, examine
from flowobs.agent.loader import Choice
from flowobs.agent.nat import LOST
from flowobs.cli.command import Command
from flowobs.cli.text import columns

_HEAD = ["FEATURE", "PROGRAM", "HOOK", "STATE"]


@click.command("doctor", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option(
    "--loader",
    type=click.Choice(["auto", "core", "bcc"]),
    default="auto",
    show_default=True,
    help="Load the prebuilt probes (core), compile them here (bcc), or what works (auto).",
)
def doctor(as_json: bool, loader: Choice) -> None:
    """Try out what flowobs can do on this machine.

    Loads every probe and attaches it for a moment where it sees no traffic. Exit code 1 when
    traffic cannot be counted here.
    """
    report = examine(loader)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    elif sys.stdout.isatty():
        _print_table(report)
    else:
        rows = [_HEAD, *(_row(p) for p in report.programs), _nat_row(report)]
        print("\n".join([machine(report), "", *columns(rows), *remarks(report)]))
    if not report.ok:
        raise click.exceptions.Exit(1)


def machine(report: Report) -> str:
    """The machine in a line."""
    interfaces = f"interfaces by {report.tc or 'none'}"
    if report.ok and report.tc is None:
        interfaces = "interfaces not tried"
    return (
        f"kernel {report.kernel} {report.machine}, BTF {'yes' if report.btf else 'no'},"
        f" loader {report.loader or 'none'}, {interfaces}"
    )


def remarks(report: Report) -> list[str]:
    """What does not work and what that costs, then the verdict; a blank line before each part."""
    reasons: dict[str, list[ProgramReport]] = {}
    for program in report.programs:
        if program.reason and program.needed:
            reasons.setdefault(program.reason, []).append(program)
    substitutes = {p.instead_of: p.name for p in report.programs if p.needed and p.works}
    lines = [_remark(why, programs, substitutes) for why, programs in reasons.items()]
    if report.nat:
        lines.append(f"nat: {report.nat}\n  lost without it: {LOST}")
    if lines:
        lines.insert(0, "")
    if not report.ok:
        why = report.error or "a program that counts traffic is refused"
        return [*lines, "", f"flowobs cannot run here: {why}"]
    partly = any(not p.works for p in report.programs) or report.nat
    return [*lines, "", f"flowobs can run here{', without what is lost above' if partly else ''}."]


def _remark(why: str, programs: list[ProgramReport], substitutes: dict[str, str]) -> str:
    """What is lost for one reason, where it is lost at all."""
    text = f"{', '.join(p.name for p in programs)}: {why}"
    lost = []
    for program in programs:
        if not program.works:
            substitute = substitutes.get(program.name)
            lost.append(program.lost + (f" ({substitute} stands in)" if substitute else ""))
    if not lost:
        return text
    if len(programs) == 1:
        return f"{text}\n  lost without it: {lost[0]}"
    return "\n    ".join([f"{text}\n  lost without them:", *dict.fromkeys(lost)])


def _row(program: ProgramReport) -> list[str]:
    return [program.feature, program.name, f"{program.kind} {program.hook}", _state(program)]


def _nat_row(report: Report) -> list[str]:
    return ["nat", "", "netlink conntrack", "no" if report.nat else "works"]


def _state(program: ProgramReport) -> str:
    if not program.needed:
        return "not needed"
    if not program.loaded:
        return "not loaded"
    if program.attached is None:
        return "loaded, not tried"
    return "works" if program.attached else "not attached"


def _print_table(report: Report) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*_HEAD, box=box.SIMPLE_HEAD)
    for program in report.programs:
        color = "green" if program.attached else "yellow" if program.works else "red"
        feature, name, hook, state = _row(program)
        table.add_row(feature, name, hook, Text(state, style=color))
    *row, state = _nat_row(report)
    table.add_row(*row, Text(state, style="red" if report.nat else "green"))
    console = Console(highlight=False)
    console.print(machine(report), table, markup=False)
    console.print(*remarks(report)[1:], sep="\n", markup=False)
