"""What somebody is typing, and what could stand there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowobs.filters import EVERYTHING
from flowobs.query import parse
from flowobs.query.fields import FIELDS, canonical
from flowobs.query.place import columns_of, field_names, place
from tests.query.trees import questions


@pytest.mark.parametrize(
    ("text", "field", "prefix", "start", "others"),
    [
        ("", "", "", 1, ""),
        ("ki", "", "ki", 1, ""),
        ("kind:dr", "kind", "dr", 6, ""),
        ("kind:open,dr", "kind", "dr", 11, ""),
        ("kind!=", "kind", "", 7, ""),
        ("ns:shop and (ki", "", "ki", 14, ""),
        ("ns:shop and !ki", "", "ki", 14, "ns:shop"),
        ("ns:shop and not pod:we", "pod", "we", 21, "ns:shop"),
        ("ns:shop or pod:we", "pod", "we", 16, ""),
        ("ns:shp( pod:we", "pod", "we", 13, ""),
        ('pod:"a b', "pod", "a b", 5, ""),
    ],
)
def test_the_place_of_the_cursor(
    text: str, field: str, prefix: str, start: int, others: str
) -> None:
    found = place(text, len(text) + 1)
    assert (found.field, found.prefix, found.start) == (field, prefix, start)
    assert found.others == parse(others)


def test_a_cursor_in_the_middle() -> None:
    found = place("kind:drop ns:shop", 8)
    assert (found.field, found.prefix, found.others) == ("kind", "dr", EVERYTHING)


@given(st.one_of(st.text(max_size=40), questions()), st.integers(-1, 50))
def test_every_place_is_one(text: str, at: int) -> None:
    found = place(text, at)
    assert 1 <= found.start <= len(text) + 1
    columns_of(found.field)
    field_names(found.prefix)


def test_fields_come_by_likelihood() -> None:
    first = [name for name, _ in field_names("")][:5]
    assert first == ["pod", "ns", "port", "kind", "verdict"]
    assert "process" in dict(field_names("pro"))
    assert next(iter(field_names("nsp")), None) is None
    for name, about in field_names(""):
        assert canonical(name) in FIELDS
        assert about


@pytest.mark.parametrize(
    ("field", "columns"),
    [
        ("pod", ("src_name", "dst_name")),
        ("src.pod", ("src_name",)),
        ("to", ("dst_name",)),
        ("end", ("src_name", "dst_name")),
        ("ns", ("src_namespace", "dst_namespace")),
        ("from.ns", ("src_namespace",)),
        ("port", ("src_port", "dst_port")),
        ("node", ("node",)),
        ("src.kind", ("src_kind",)),
        ("reason", ("drop_reason",)),
        ("nothing", ()),
    ],
)
def test_columns_of_fields(field: str, columns: tuple[str, ...]) -> None:
    assert columns_of(field) == columns
