"""Who had an address when: never the name of another time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowobs.batch import Endpoint, Endpoints, Strings
from flowobs.identity.addresses import AddressTable
from flowobs.identity.prefixes import KEEP_NS, Prefixes
from flowobs.identity.resolver import Resolver
from flowobs.identity.source import END
from tests.identity.fakes import FakeSource, ip, pod, prefix

A, B = pod("a"), pod("b")


def test_the_longest_prefix_wins() -> None:
    table = Prefixes.always(
        {prefix("10.0.0.0/8"): A, prefix("10.1.0.0/16"): B, prefix("10.1.2.3"): pod("c")}
    )
    assert table.at(ip("10.2.0.1"), 0).endpoint == A
    assert table.at(ip("10.1.0.1"), 0).endpoint == B
    assert table.at(ip("10.1.2.3"), 0).endpoint == pod("c")
    assert table.at(ip("11.0.0.1"), 0).endpoint is None


def test_a_range_of_all_ipv6_says_nothing_of_ipv4() -> None:
    table = Prefixes.always({prefix("::/0"): A})
    assert table.at(ip("2001:db8::1"), 0).endpoint == A
    assert table.at(ip("10.0.0.1"), 0).endpoint is None
    assert Prefixes.always({prefix("0.0.0.0/0"): A}).at(ip("10.0.0.1"), 0).endpoint == A


def test_an_address_that_moves_keeps_its_name_for_older_records() -> None:
    one = Prefixes.always({prefix("10.0.0.1"): A})
    two = one.replaced({prefix("10.0.0.1"): B}, 100)
    assert two.at(ip("10.0.0.1"), 99) == (A, -(1 << 63), 100)
    assert two.at(ip("10.0.0.1"), 100) == (B, 100, END)


def test_an_address_that_comes_back_does_not_fill_the_gap() -> None:
    table = Prefixes.always({prefix("10.0.0.1"): A}).replaced({}, 100)
    table = table.replaced({prefix("10.0.0.1"): A}, 200)
    assert table.at(ip("10.0.0.1"), 150) == (None, 100, 200)
    assert table.at(ip("10.0.0.1"), 250).endpoint == A


def test_a_tombstone_goes_and_takes_the_name_along() -> None:
    table = Prefixes.always({prefix("10.0.0.1"): A}).replaced({prefix("10.0.0.1"): B}, 100)
    table = table.replaced({prefix("10.0.0.1"): B}, 100 + KEEP_NS)
    assert table.at(ip("10.0.0.1"), 99).endpoint is None
    assert Prefixes.always({prefix("10.0.0.1"): A}).replaced({}, 5).replaced({}, 5 + KEEP_NS).at(
        ip("10.0.0.1"), 0
    ) == (None, -(1 << 63), END)


def test_spans_of_one_address_are_bounded() -> None:
    table = Prefixes({})
    for now in range(1000):
        table = table.replaced({prefix("10.0.0.1"): pod(str(now))}, now)
    spans = sum(table.at(ip("10.0.0.1"), t).endpoint is not None for t in range(1000))
    assert spans <= 17


def test_a_clock_that_goes_back_changes_no_older_name() -> None:
    table = Prefixes({}).replaced({prefix("10.0.0.1"): A}, 100)
    table = table.replaced({prefix("10.0.0.1"): B}, 50)
    assert table.at(ip("10.0.0.1"), 60).endpoint is None
    assert table.at(ip("10.0.0.1"), 100).endpoint == B


_TEXTS = ("10.0.0.1", "10.0.0.2", "10.0.0.0/24", "10.0.0.0/8", "fd00::1", "::/0")
_ASKED = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.1.0.1", "fd00::1", "fd00::2")
_tables = st.dictionaries(st.sampled_from(_TEXTS), st.sampled_from("abc"))


def _truth(history: list[tuple[int, dict[str, str]]], address: str, time: int) -> str:
    """The model: the last table in force at that time, longest prefix first."""
    table = [t for since, t in history if since <= time]
    known = {prefix(text): name for text, name in (table[-1] if table else {}).items()}
    number = int.from_bytes(ip(address), "big")
    for entry in sorted(known, reverse=True):
        inside = entry.bits == number >> (128 - entry.length)
        if inside and (entry.length >= 96 or ":" in address):
            return known[entry]
    return ""


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 9), _tables), max_size=6),
    st.lists(
        st.lists(st.tuples(st.sampled_from(_ASKED), st.integers(-1, 60)), max_size=12), max_size=4
    ),
)
def test_reuse_of_addresses_never_misattributes(
    reloads: list[tuple[bool, int, dict[str, str]]], batches: list[list[tuple[str, int]]]
) -> None:
    """Two sources that reload at any times, asked by columns at any times, before and after."""
    sources = FakeSource(), FakeSource("second")
    histories: tuple[list[tuple[int, dict[str, str]]], ...] = ([], [])
    resolver = Resolver(sources)
    endpoints = Endpoints(Strings())
    table = AddressTable(resolver, capacity=4)
    now = 0

    def check(asked: list[tuple[str, int]]) -> None:
        if not asked:
            return
        addresses = np.frombuffer(b"".join(ip(a) for a, _ in asked), np.uint8).reshape(-1, 16)
        times = np.array([t for _, t in asked], np.int64)
        rows = table.lookup(addresses, times, endpoints, set()).rows
        for (address, time), row in zip(asked, rows.tolist(), strict=True):
            got: Endpoint = endpoints[row]
            expected = _truth(histories[0], address, time), "inventory"
            if not expected[0]:
                expected = _truth(histories[1], address, time), "second"
            if not expected[0]:
                expected = "", ""
            assert (got.name, got.identity_source) == expected

    for i, (second, pause, entries) in enumerate(reloads):
        now += pause
        named = {text: pod(name, sources[second].name) for text, name in entries.items()}
        sources[second].replace(named, now)
        histories[second].append((now, entries))
        table.clear()
        for asked in batches[i % 2 :: 2]:
            check(asked)
    for asked in batches:
        check(asked)
