from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowobs.cli import text
from flowobs.cli.output import Guard


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0, "0 ms"),
        (0.0809, "80.9 us"),
        (0.99949, "999 us"),
        (0.9996, "1 ms"),
        (999.4, "999 ms"),
        (1240, "1.24 s"),
        (1.5e6, "1,500 s"),
    ],
)
def test_latencies_have_three_digits(ms: float, shown: str) -> None:
    assert text.latency(ms) == shown


@given(st.text(), st.integers(1, 40))
def test_cutting_keeps_to_the_width(value: str, columns: int) -> None:
    value = text.clean(value)
    assert text.width(text.cut(value, columns)) <= columns
    assert text.width(text.cut_middle(value, columns)) <= columns


@given(st.text())
def test_clean_text_is_printable_and_stays_clean(value: str) -> None:
    cleaned = text.clean(value)
    assert cleaned.isprintable()
    assert text.clean(cleaned) == cleaned


def test_names_keep_both_ends() -> None:
    assert text.cut_middle("payment-7d9f8-xk2vp", 11) == "payme…xk2vp"
    assert text.cut_middle("web", 3) == "web"


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0, "0 ns"),
        (1_500, "2 us"),
        (12_000_000, "12 ms"),
        (1_250_000_000, "1.2 s"),
        (184e9, "3 min 4 s"),
        (180e9, "3 min"),
        (7_380e9, "2 h 3 min"),
        (100_000e9, "1 d 3 h"),
    ],
)
def test_durations(ns: float, shown: str) -> None:
    assert text.duration(ns) == shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0, 0), "0/0 B"),
        ((999, 1), "999/1 B"),
        ((1200, 9000), "1.2/9.0 kB"),
        ((5 << 30,), "5.4 GB"),
    ],
)
def test_sizes_share_a_unit(values: tuple[int, ...], shown: str) -> None:
    assert text.size(*values) == shown


def test_the_guard_opens_again_each_second() -> None:
    now = [0.0]
    guard = Guard(2, extra=1, clock=lambda: now[0])
    assert [guard.allows() for _ in range(5)] == [True, True, True, False, False]
    assert guard.hidden() == 0, "the second is not over"
    now[0] = 1.0
    assert guard.hidden() == 2
    assert [guard.allows() for _ in range(3)] == [True, True, False]
    assert guard.hidden(now=True) == 1


def test_a_question_is_shown_around_what_is_wrong() -> None:
    assert text.pointed("kind:opn", 6) == "\n  kind:opn\n       ^"
    assert text.pointed("a\tb", 3) == "\n  a\\tb\n     ^"
    assert text.pointed("日:x", 2) == "\n  日:x\n    ^"
    long = text.pointed("a" * 100 + "!" * 100, 101).splitlines()
    assert long[1] == "  …" + "a" * 49 + "!" * 24 + "…"
    assert long[2] == " " * 52 + "^"
    for column in (0, 3, None, "1"):
        assert text.pointed("x", column) == ""
