"""docs/query.md tells the truth: its fields exist, its examples parse, its errors are real."""

import re
from pathlib import Path

import pytest

from flowobs.cli.options import EXAMPLES
from flowobs.cli.text import pointed
from flowobs.query import QueryError, fields, parse

PAGE = (Path(__file__).parents[2] / "docs" / "query.md").read_text()
ASKED = re.compile(r"^\s+(?:flows[^'\n]*|curl.* )'(?:q=)?([^'\n]+)'", re.MULTILINE)


@pytest.mark.parametrize("text", [PAGE, EXAMPLES], ids=["page", "help"])
def test_examples_parse(text: str) -> None:
    found = ASKED.findall(text)
    assert len(found) >= 3
    for question in found:
        parse(question)


def test_fields_of_the_page_exist() -> None:
    table = PAGE.partition("| field | is |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(names) > 25
    for name in names:
        assert fields.canonical(name) in fields.FIELDS


def test_values_of_the_page_parse() -> None:
    for question in ["10.88.", ":443", "web-0:8080", "[fd00::1]:443", "reason:TCP_*", "kind:re*"]:
        parse(question)
    for name, value in re.findall(r"^\| `(\w+)`[^|]*\| `([^`]+)`", PAGE, re.MULTILINE):
        if name not in ("field", "from"):
            parse(f"{name}:{value}")


def test_the_error_of_the_page_is_the_error() -> None:
    question = "ns:shop and kind:opn"
    with pytest.raises(QueryError) as caught:
        parse(question)
    shown = f"Error: {caught.value.sentence}{pointed(question, caught.value.column)}"
    assert "\n".join(f"    {line}" for line in shown.splitlines()) in PAGE
    assert f'"column": {caught.value.column}' in PAGE
