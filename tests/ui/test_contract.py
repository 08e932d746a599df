"""The page's types name exactly what the API has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flowobs import schema

ROOT = Path(__file__).resolve().parents[2]
TYPES = (ROOT / "ui" / "src" / "api" / "types.ts").read_text()


def interface(name: str) -> dict[str, bool]:
    """Names of an interface's fields, and whether they may be missing."""
    found = re.search(rf"export interface {name} {{\n(.*?)\n}}", TYPES, re.DOTALL)
    assert found is not None, f"no interface {name}"
    return {n: bool(mark) for n, mark in re.findall(r"^  (\w+)(\??):", found[1], re.MULTILINE)}


def constants(name: str) -> list[str]:
    found = re.search(rf"export const {name} = \[(.*?)\]", TYPES, re.DOTALL)
    assert found is not None, f"no constant {name}"
    return re.findall(r'"(\w+)"', found[1])


def test_records_have_the_columns_of_the_schema() -> None:
    assert interface("FlowRecord") == {c.name: c.optional for c in schema.COLUMNS}


def test_enums_have_the_names_of_the_schema() -> None:
    assert constants("KINDS") == [kind.name for kind in schema.Kind]
    assert constants("ENDPOINT_KINDS") == [kind.name for kind in schema.EndpointKind]


def sample(heading: str) -> dict:
    """The JSON sample below a heading of docs/api.md."""
    section = (ROOT / "docs" / "api.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return json.loads(
        re.search(r"^    \{.*?\}$(?=\n\n|\n*\Z)", section, re.DOTALL | re.MULTILINE)[0]
    )


@pytest.mark.parametrize(
    ("name", "heading", "path"),
    [
        ("ServiceMap", "Service map", ()),
        ("MapNode", "Service map", ("nodes", 0)),
        ("MapEdge", "Service map", ("edges", 0)),
        ("Status", "Status", ()),
        ("StoreStatus", "Status", ("store",)),
        ("LiveStatus", "Status", ("live",)),
        ("AgentStatus", "Status", ("agents", 0)),
        ("IdentityStatus", "Status", ("identity",)),
        ("ResourceStatus", "Status", ("identity", "resources", 0)),
        ("TimeSeries", "Time series", ()),
    ],
)
def test_answers_have_the_documented_fields(name: str, heading: str, path: tuple) -> None:
    value = sample(heading)
    for step in path:
        value = value[step]
    fields = interface(name)
    assert set(value) <= set(fields)
    assert {n for n, optional in fields.items() if not optional} <= set(value)
