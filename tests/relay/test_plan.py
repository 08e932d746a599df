from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from relay.store.plan import plan

MINUTE, HOUR, DAY = 60 * 10**9, 3600 * 10**9, 86400 * 10**9
T = 20_000 * DAY
ALL = {"flows": 0, "flows_1m": 0, "flows_1h": 0}
NS = {"flows": 1, "flows_1m": MINUTE, "flows_1h": HOUR}


def slices(from_ns: int, to_ns: int, **complete: int) -> list[tuple[str, int, int]]:
    return [
        (s.table, s.from_ns - T, s.to_ns - T)
        for s in plan(T + from_ns, T + to_ns, ALL | complete).slices
    ]


def test_a_short_time_is_answered_from_records():
    assert slices(0, 2 * MINUTE - 1) == [("flows", 0, 2 * MINUTE - 1)]
    assert plan(T, T + MINUTE, ALL).table == "flows"
    assert slices(0, 2 * MINUTE) == [("flows_1m", 0, 2 * MINUTE)]


def test_whole_minutes_and_hours_come_from_rollups():
    assert slices(30 * 10**9, 20 * MINUTE + 5) == [
        ("flows", 30 * 10**9, MINUTE),
        ("flows_1m", MINUTE, 20 * MINUTE),
        ("flows", 20 * MINUTE, 20 * MINUTE + 5),
    ]
    assert slices(59 * MINUTE - 1, 3 * HOUR + 2 * MINUTE + 1) == [
        ("flows", 59 * MINUTE - 1, 59 * MINUTE),
        ("flows_1m", 59 * MINUTE, HOUR),
        ("flows_1h", HOUR, 3 * HOUR),
        ("flows_1m", 3 * HOUR, 3 * HOUR + 2 * MINUTE),
        ("flows", 3 * HOUR + 2 * MINUTE, 3 * HOUR + 2 * MINUTE + 1),
    ]
    assert plan(T, T + 2 * HOUR, ALL).table == "flows_1h"


def test_a_store_that_had_no_rollups_yet():
    since = {"flows_1m": T + 2 * HOUR, "flows_1h": T + 2 * HOUR}
    assert slices(0, HOUR, **since) == [("flows", 0, HOUR)]
    assert slices(0, 3 * HOUR, **since) == [
        ("flows", 0, 2 * HOUR),
        ("flows_1h", 2 * HOUR, 3 * HOUR),
    ]


def test_what_goes_on_until_now_takes_the_newest_buckets():
    now = T + 3 * HOUR + 5 * MINUTE + 7
    made = plan(T + 30 * MINUTE, now + 1, ALL, now_ns=now)
    assert [(s.table, s.from_ns - T, s.to_ns - T) for s in made.slices] == [
        ("flows_1m", 30 * MINUTE, HOUR),
        ("flows_1h", HOUR, 4 * HOUR),
    ]
    assert made.to_ns == now
    short = plan(now - MINUTE, now, ALL, now_ns=now)
    assert short.table == "flows" and short.to_ns == now


def test_buckets_fit_into_steps():
    def steps(step_ns: int, **complete: int) -> list[tuple[str, int, int]]:
        made = plan(T, T + 3 * HOUR, ALL | complete, step_ns=step_ns)
        return [(s.table, s.from_ns - T, s.to_ns - T) for s in made.slices]

    assert steps(HOUR) == [("flows_1h", 0, 3 * HOUR)]
    assert steps(5 * MINUTE) == [("flows_1m", 0, 3 * HOUR)]
    assert steps(10**9) == [("flows", 0, 3 * HOUR)]
    gone = {"flows": T + 2 * HOUR, "flows_1m": T + HOUR}  # finer than what is there
    assert steps(MINUTE, **gone) == [("flows_1h", 0, HOUR), ("flows_1m", HOUR, 3 * HOUR)]


def test_where_records_are_gone_the_time_is_widened():
    gone = {"flows": T + DAY}
    assert slices(5, 5 * MINUTE + 5, **gone) == [("flows_1m", 0, 6 * MINUTE)]
    gone |= {"flows_1m": T + 12 * HOUR}
    assert slices(5, 5 * MINUTE + 5, **gone) == [("flows_1h", 0, HOUR)]
    assert slices(5, DAY + 5, **gone) == [("flows_1h", 0, DAY), ("flows", DAY, DAY + 5)]


@example(0, HOUR + 1, [0, 59 * MINUTE + 1, 0])  # whole hours, and not one whole minute
@given(
    st.integers(0, 3 * DAY),
    st.integers(1, 2 * DAY),
    st.lists(st.integers(0, 3 * DAY), min_size=3, max_size=3),
)
def test_slices_join_and_are_whole_buckets(begin, length, complete):
    begin += T
    made = plan(begin, begin + length, dict(zip(ALL, (T + c for c in complete), strict=True)))
    assert made.from_ns <= begin < begin + length <= made.to_ns
    assert made.from_ns > begin - HOUR and made.to_ns < begin + length + HOUR
    for one, two in zip(made.slices, made.slices[1:], strict=False):
        assert one.to_ns == two.from_ns
    for part in made.slices:
        assert part.from_ns < part.to_ns
        assert part.from_ns % NS[part.table] == part.to_ns % NS[part.table] == 0
