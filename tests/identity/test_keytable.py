"""The hash table against a dict."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowobs.identity.keytable import KeyTable

_words = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))
_keys = st.lists(st.tuples(_words, _words), max_size=30)


@given(st.lists(_keys, max_size=5), _keys)
def test_it_finds_what_was_added_and_nothing_else(batches: list, asked: list) -> None:  # type: ignore[type-arg]
    table = KeyTable(150)
    known: dict[tuple[int, int], int] = {}
    for batch in batches:
        new = [key for key in dict.fromkeys(batch) if key not in known]
        words = np.array(new, np.uint64).reshape(-1, 2)
        rows = table.add(words[:, 0], words[:, 1])
        known.update(zip(new, rows.tolist(), strict=True))
    assert sorted(known.values()) == list(range(len(table)))
    every = [*known, *asked]
    words = np.array(every, np.uint64).reshape(-1, 2)
    assert table.find(words[:, 0], words[:, 1]).tolist() == [known.get(k, -1) for k in every]


def test_a_full_table_finds_all_keys() -> None:
    table = KeyTable(5000)
    a = np.arange(5000, dtype=np.uint64) << np.uint64(40)
    b = np.zeros(5000, np.uint64)
    rows = table.add(a, b)
    assert table.room == 0
    assert (table.find(a, b) == rows).all()
    assert (table.find(a + np.uint64(1), b) == -1).all()
    table.clear()
    assert (table.find(a, b) == -1).all()


@given(st.lists(st.lists(_words, max_size=30), max_size=5), st.lists(_words, max_size=30))
def test_keys_of_one_word(batches: list[list[int]], asked: list[int]) -> None:
    table = KeyTable(150)
    known: dict[int, int] = {}
    for batch in batches:
        new = [key for key in dict.fromkeys(batch) if key not in known]
        known.update(zip(new, table.add(np.array(new, np.uint64)).tolist(), strict=True))
    every = [*known, *asked]
    found = table.find(np.array(every, np.uint64))
    assert found.tolist() == [known.get(key, -1) for key in every]


def test_a_full_table_of_one_word_finds_all_keys() -> None:
    for shift in (0, 40):
        table = KeyTable(5000)
        keys = np.arange(5000, dtype=np.uint64) << np.uint64(shift)
        rows = table.add(keys)
        assert (table.find(keys) == rows).all()
        assert (table.find(keys + np.uint64(5000 << shift)) == -1).all()
