"""The capability table: which program runs on which kernel with which loader, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowobs.agent.features import PROGRAMS

PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"
BEGIN = "<!-- from here: python -m tests.vm -->\n"
END = "<!-- to here -->\n"


def series(kernel: str) -> str:
    """The part of a kernel's release that decides what it can do: 6.1 of 6.1.0-56-cloud-amd64."""
    return ".".join(kernel.split(".")[:2])


def capabilities(found: Sequence[dict[str, Any]]) -> str:
    """A Markdown table, a column for each kernel and loader, with the reasons below it."""
    runs = [
        (f"{series(each['kernel'])} {loader}", each, run)
        for each in found
        for loader, run in each["runs"].items()
    ]
    rows = [["program", "hook", "gives", *(name for name, _, _ in runs)], ["---"] * (3 + len(runs))]
    for program in PROGRAMS:
        cells = [_cell(program.name, run) for _, _, run in runs]
        rows.append([f"`{program.name}`", f"{program.kind} {program.hook}", program.lost, *cells])
    rows.append(["on interfaces by", "", "", *(each["doctor"]["tc"] for _, each, _ in runs)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    reasons = [
        f"- {name}: `{program}`: {why}"
        for name, _, run in runs
        for program, why in sorted(run["missing"].items())
        if program not in run["taken"]
    ]
    return "\n".join([*lines, *(["", *reasons] if reasons else []), ""])


def _cell(program: str, run: dict[str, Any]) -> str:
    if program in run["idle"]:
        return "not needed"
    return "no" if program in run["missing"] else "yes"


def columns(text: str) -> dict[str, list[str]]:
    """The columns of a table by their heads, each with the program's name in every cell."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in row] for row in rows]
    return {name: [f"{row[0]}: {row[i]}" for row in body] for i, name in enumerate(head)}


def page() -> str:
    """The table as docs/kernels.md has it."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


def write(text: str) -> None:
    """Put a new table into docs/kernels.md."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2])
