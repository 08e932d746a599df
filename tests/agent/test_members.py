from __future__ import annotations

import numpy as np
import pytest

from flowobs.agent.members import Pairs, copied, told, with_rows
from flowobs.agent.records import EVENT, FLOW, FLOW_KEY

SOME = np.random.default_rng(5)


def any_structs(dtype: np.dtype[np.void], rows: int) -> np.ndarray:
    return SOME.integers(0, 256, (rows, dtype.itemsize), np.uint8).view(dtype)[:, 0]


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 200])
@pytest.mark.parametrize("dtype", [FLOW.dtype, FLOW_KEY.dtype, EVENT.dtype])
def test_told_has_the_bits_of_all(dtype: np.dtype[np.void], rows: int) -> None:
    structs = any_structs(dtype, rows)
    structs.view("u1").reshape(rows, dtype.itemsize)[:] &= 1 << SOME.integers(
        0, 8, dtype.itemsize, np.uint8
    )
    expected = np.zeros(dtype.itemsize, np.uint8)
    for one in structs.view("u1").reshape(rows, dtype.itemsize):
        expected |= one
    assert told(structs).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(FLOW.dtype, n) for n in ("packets", "rtt_ns", "tcp_flags")]
    + [(EVENT.dtype, n) for n in ("cookie", "tcp_flags")],
)
def test_sides_are_the_sources_and_the_destinations(dtype: np.dtype[np.void], name: str) -> None:
    structs = any_structs(dtype, 20)
    swap = SOME.integers(0, 2, 20, np.uint8)
    source, destination = Pairs(structs, swap, told(structs)).sides(name)
    for one, b_is_source, src, dst in zip(structs, swap, source, destination, strict=True):
        a, b = one[name]
        assert (src, dst) == ((b, a) if b_is_source else (a, b))
    assert source.dtype == destination.dtype == structs[name].dtype


def test_copies_keep_every_byte() -> None:
    events = any_structs(EVENT.dtype, 5)
    keys = copied(events["key"])
    assert keys.flags.c_contiguous and keys.dtype == FLOW_KEY.dtype
    assert [k.tobytes() for k in keys] == [k.tobytes() for k in events["key"]]
    longer = with_rows(events, np.array([3, 0]))
    assert longer.tobytes() == events.tobytes() + events[3].tobytes() + events[0].tobytes()
