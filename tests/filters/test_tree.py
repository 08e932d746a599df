"""Filters from HTTP parameters: what they select, and what they refuse."""

import pytest

from flowobs import schema
from flowobs.batch import Endpoint, Endpoints, FlowBatch, Strings
from flowobs.filters import EVERYTHING, FilterError, Mask, Match, Not, Op, from_parameters
from flowobs.filters.glob import glob_regex


@pytest.fixture
def batch() -> FlowBatch:
    """Three flows: shop/web-0 -> shop/api-1:8080, shop/web-0 -> world:443, an ICMP echo 8080."""
    endpoints = Endpoints(Strings())
    web = endpoints.id(Endpoint(schema.EndpointKind.pod, "", "shop", "web-0"))
    api = endpoints.id(Endpoint(schema.EndpointKind.pod, "", "shop", "api-1"))
    other = endpoints.id(Endpoint(schema.EndpointKind.pod, "", "ops", "web-0"))
    made = FlowBatch.zeros(3, endpoints)
    made.columns["src_endpoint"][:] = [web, web, other]
    made.columns["dst_endpoint"][:] = [api, 0, api]
    made.columns["dst_port"][:] = [8080, 443, 8080]
    made.columns["proto"][:] = [6, 6, 1]
    made.columns["kind"][:] = [schema.Kind.open, schema.Kind.drop, schema.Kind.update]
    made.columns["verdict"][:] = [1, 2, 1]
    return made


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        ({}, [0, 1, 2]),
        ({"namespace": []}, [0, 1, 2]),
        ({"namespace": ["ops"]}, [2]),
        ({"namespace": ["sh*"]}, [0, 1, 2]),
        ({"namespace": ["o?s", "nothing"]}, [2]),
        ({"pod": ["web-0"]}, [0, 1, 2]),
        ({"pod": ["shop/web-0"]}, [0, 1]),
        ({"pod": ["shop/web-*"]}, [0, 1]),
        ({"pod": ["ops/api-1"]}, []),
        ({"port": ["8080"]}, [0]),
        ({"port": ["8080", "443"]}, [0, 1]),
        ({"port": ["443"], "namespace": ["ops"]}, []),
        ({"verdict": ["dropped"]}, [1]),
        ({"kind": ["open", "Update"]}, [0, 2]),
        ({"proto": ["icmp"]}, [2]),
        ({"proto": ["6"]}, [0, 1]),
    ],
)
def test_parameters_select(batch: FlowBatch, values: dict[str, list[str]], rows: list[int]) -> None:
    mask = Mask(from_parameters(values))(batch)
    assert mask.nonzero()[0].tolist() == rows


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("namespace", "", "`namespace` is empty"),
        ("pod", "a/b/c", "`pod` cannot be `a/b/c`"),
        ("pod", "/x", "`pod` cannot be `/x`"),
        ("pod", "x/", "`pod` cannot be `x/`"),
        ("port", "65536", "`port` cannot be `65536`; use a number up to 65535"),
        ("port", "\u0663", "use a number up to 65535"),
        ("port", "-1", "use a number up to 65535"),
        ("proto", "quic", "`proto` cannot be `quic`; use icmp,"),
        ("proto", "256", "use a number up to 255"),
        ("kind", "begin", "use one of open, update"),
        ("verdict", "", "use one of unknown, forwarded"),
        ("color", "red", "there is no filter `color`; filters are namespace, pod"),
    ],
)
def test_bad_values_get_one_sentence(name: str, value: str, sentence: str) -> None:
    with pytest.raises(FilterError) as caught:
        from_parameters({name: [value]})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fields_and_operators_are_checked() -> None:
    with pytest.raises(FilterError, match="there is no field `colour`"):
        Match("colour", Op.eq, 1)
    with pytest.raises(FilterError, match="`src_ip` cannot be compared with `<`"):
        Match("src_ip", Op.lt, b"\0" * 16)


def test_patterns_follow_a_growing_table_and_a_new_one(batch: FlowBatch) -> None:
    mask = Mask(Match("src_name", Op.glob, "db-*"))
    assert not mask(batch).any()
    batch.columns["src_endpoint"][1] = batch.endpoints.id(Endpoint(1, "", "shop", "db-7"))
    assert mask(batch).tolist() == [False, True, False]
    fresh = Endpoints(Strings())
    moved = FlowBatch.zeros(1, fresh)
    moved.columns["src_endpoint"][:] = fresh.id(Endpoint(1, "", "x", "db-1"))
    assert mask(moved).tolist() == [True]


def test_hostile_pattern_takes_no_time() -> None:
    assert glob_regex("*a" * 40 + "*b").fullmatch("a" * 5_000) is None


def test_equal_filters_are_one_key() -> None:
    values = {"namespace": ["shop"], "port": ["80"]}
    assert len({from_parameters(values): 1, from_parameters(dict(values)): 2}) == 1
    assert not Mask(Not(EVERYTHING))(FlowBatch.zeros(2, Endpoints(Strings()))).any()
