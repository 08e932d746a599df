"""What answers hold in memory for their readers."""

from __future__ import annotations

import asyncio

import pytest

from relay.http.errors import ApiError
from relay.http.held import HELD_ROWS, LAST_SINCE, Held, Room


def test_what_was_sent_is_not_held() -> None:
    room = Room()
    held, lines = Held(room), [b"%04d" % n for n in range(2500)]
    held.add(lines[:1])
    held.add(lines[1:])
    found, left = [], []
    for piece in held.pieces(lines):
        found += piece
        left.append((len(lines), room.bytes))
    assert found == [b"%04d" % n for n in range(2500)]
    assert left == [(1500, 10_000), (500, 6_000), (0, 2_000)] and room.bytes == 0


async def test_long_answers_are_read_one_at_a_time() -> None:
    room = Room()
    async with room.turn(HELD_ROWS + 1), room.turn(HELD_ROWS):
        other = asyncio.ensure_future(room.turn(HELD_ROWS + 1).__aenter__())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not other.done()
    await other


def test_many_lines_are_refused_where_others_hold_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.http.held.MOST_BYTES", 3 * LAST_SINCE)
    room = Room()
    first, second, third = (Held(room) for _ in range(3))
    first.add([b"12"] * LAST_SINCE)
    second.add([b"12"] * LAST_SINCE)  # nobody asked for more than is sent anyway
    with pytest.raises(ApiError, match="held in memory") as caught:
        second.add([b"12"])
    assert caught.value.status == 503
    second.end()
    assert room.bytes == 2 * LAST_SINCE
    first.end()
    third.add([b"1"] * LAST_SINCE)
    third.add([b"1"] * LAST_SINCE)  # there is room again
    third.end()
    assert room.bytes == 0
