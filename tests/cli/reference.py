"""Writes the reference in docs/cli.md from the commands: python -m tests.cli.reference"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from flowobs.cli.command import CONTEXT, sections
from flowobs.cli.flowobs import flowobs
from flowobs.cli.flows import flows
from relay.cli import main as relay

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
MARK = "<!-- from here on generated: python -m tests.cli.reference -->\n"


def reference() -> str:
    ctx = click.Context(relay, info_name="flowobs-relay", **(CONTEXT | relay.context_settings))
    alone = _command(relay, ctx)
    return "\n".join([*_group(flows, "flows"), *_group(flowobs, "flowobs"), *alone])


def _group(group: click.Group, name: str) -> Iterator[str]:
    ctx = click.Context(group, info_name=name)
    for sub in group.list_commands(ctx):
        command = group.get_command(ctx, sub)
        if command is not None:
            yield from _command(
                command, click.Context(command, info_name=sub, parent=ctx, **CONTEXT)
            )


def _command(command: click.Command, ctx: click.Context) -> Iterator[str]:
    yield f"### {ctx.command_path}\n"
    yield " ".join((command.help or "").split()) + "\n"
    found = sections(command.get_params(ctx), ctx)
    for heading, records in found.items():
        yield f"| {heading if len(found) > 1 else 'Options'} | |\n| --- | --- |"
        yield from (f"| `{_cell(option)}` | {_cell(text)} |" for option, text in records if text)
        yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    written, _, _ = PAGE.read_text().partition(MARK)
    PAGE.write_text(f"{written}{MARK}\n{reference()}")
