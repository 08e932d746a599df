"""click commands as we like them: help with headings, --debug, and loading only what runs."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

import click

from flowobs.cli.entry import importing
from flowobs.cli.errors import CliError, guarded

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
OTHER = "Other options"


class Option(click.Option):
    """An option that says under which heading of the help it stands."""

    def __init__(self, *args: Any, section: str = OTHER, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.section = section


class Number(click.IntRange):
    """A whole number within limits."""

    name = "number"  # errors name it


class Decimal(click.FloatRange):
    """A number within limits."""

    name = "number"


class Argument(click.Argument):
    """An argument with a heading and a line of its own in the help."""

    def __init__(self, *args: Any, section: str, about: str, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.section = section
        self._about = about

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        return self.make_metavar(ctx), self._about


def sections(
    params: Iterable[click.Parameter], ctx: click.Context
) -> dict[str, list[tuple[str, str]]]:
    """The options' help by heading, in the order of their first option; other options last."""
    found: dict[str, list[tuple[str, str]]] = {}
    for param in params:
        if record := param.get_help_record(ctx):
            found.setdefault(getattr(param, "section", OTHER), []).append(record)
    if OTHER in found:
        found[OTHER] = found.pop(OTHER)
    return found


def write_sections(
    params: Iterable[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    for heading, records in sections(params, ctx).items():
        with formatter.section(heading):
            formatter.write_dl(records)


class Command(click.Command):
    def __init__(self, *args: Any, **kw: Any) -> None:
        kw["context_settings"] = CONTEXT | kw.get("context_settings", {})
        super().__init__(*args, **kw)
        self.params.append(
            Option(["--debug"], is_flag=True, help="Show a traceback when something fails.")
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_sections(self.get_params(ctx), ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        with guarded(ctx.params.pop("debug")):
            return super().invoke(ctx)


class LazyGroup(click.Group):
    """A group whose commands are named by ``lazy``: name -> (module:attribute, help).

    A command's module is imported when it runs: the group's help does not wait for all of them.
    """

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kw: Any) -> None:
        kw["context_settings"] = CONTEXT | kw.get("context_settings", {})
        super().__init__(*args, **kw)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        try:
            with importing():
                command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
            raise CliError(f"'{cmd_name}' is not part of this installation.") from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])
