"""Records of both sides of a NAT become one flow, on columns made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowobs.agent.conntrack import TRANSLATION
from flowobs.agent.translations import STILL_THERE, TRANSLATED, Translations
from flowobs.batch import Endpoints, FlowBatch, Strings
from flowobs.rows import ip_text
from flowobs.schema import Kind, Protocol
from tests.identity.fakes import ip

TCP, ICMP = int(Protocol.tcp), int(Protocol.icmp)
End = tuple[str, int]
CLIENT, VIRTUAL, BACKEND, HIDDEN = (
    ("10.0.0.1", 4000),
    ("10.96.0.1", 80),
    ("10.0.0.2", 8080),
    ("192.168.0.9", 25000),
)


def translation(
    source: End, virtual: End, backend: End, snat: End, proto: int = TCP
) -> np.ndarray[Any, Any]:
    row = np.zeros(1, TRANSLATION)
    for name, (address, port) in zip(
        ("source", "virtual", "backend", "snat"), (source, virtual, backend, snat), strict=True
    ):
        row[name]["ip"] = np.frombuffer(ip(address), "<u8")
        row[name]["port"] = port
    row["proto"] = proto
    return row


def know(*rows: np.ndarray[Any, Any], most: int = 1 << 12, end: int = STILL_THERE) -> Translations:
    known = Translations(most)
    found = np.concatenate(rows)
    known.learn(found, np.full(len(found), end))
    return known


def see(
    known: Translations,
    src: End,
    dst: End,
    proto: int = TCP,
    kind: Kind = Kind.update,
    time: int = 1000,
) -> tuple[list[End | None], int]:
    """(source, destination, virtual, snat) afterwards, and how many openings are left."""
    columns = FlowBatch.zeros(1, Endpoints(Strings()), shared=TRANSLATED[4:]).columns
    for side, (address, port) in (("src", src), ("dst", dst)):
        columns[f"{side}_ip"][0] = np.frombuffer(ip(address), np.uint8)
        columns[f"{side}_port"][0] = port
    columns["proto"][0], columns["kind"][0], columns["time"][0] = proto, kind, time
    left = known.translate(columns)
    ends: list[End | None] = []
    for name in ("src", "dst", "virtual", "snat"):
        address = columns[f"{name}_ip"][0]
        port = int(columns[f"{name}_port"][0])
        ends.append((ip_text(address.tobytes()), port) if address.any() else None)
    return ends, len(left)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("side", ["client", "backend"])
def test_both_sides_say_the_same(hidden: bool, side: str) -> None:
    snat = HIDDEN if hidden else CLIENT
    known = know(translation(CLIENT, VIRTUAL, BACKEND, snat))
    seen = (CLIENT, VIRTUAL) if side == "client" else (snat, BACKEND)
    ends, _ = see(known, *seen)
    assert ends == [CLIENT, BACKEND, VIRTUAL, HIDDEN if hidden else None]
    # who opened it may have been a wrong guess: then it stays one, on both sides
    ends, _ = see(known, *reversed(seen))
    assert ends == [BACKEND, CLIENT, VIRTUAL, HIDDEN if hidden else None]


def test_a_masquerade_hides_the_client_only() -> None:
    far = ("198.51.100.7", 443)
    known = know(translation(CLIENT, far, far, HIDDEN))
    assert see(known, CLIENT, far)[0] == [CLIENT, far, None, HIDDEN]
    assert see(known, HIDDEN, far)[0] == [CLIENT, far, None, HIDDEN]


def test_ipv6() -> None:
    client, virtual, backend = ("fd00::1", 4000), ("fd96::1", 80), ("fd00::2", 8080)
    known = know(translation(client, virtual, backend, client))
    assert see(known, client, virtual)[0] == [client, backend, virtual, None]


def test_an_echo_keeps_its_identifier() -> None:
    ping, pong = ("10.0.0.1", 7), ("198.51.100.7", 7)
    known = know(translation(ping, pong, (pong[0], 900), ("192.168.0.9", 900), ICMP))
    there = [ping, pong, None, ("192.168.0.9", 900)]
    assert see(known, ping, pong, ICMP)[0] == there
    assert see(known, ("192.168.0.9", 900), (pong[0], 900), ICMP)[0] == there


def test_what_is_not_translated_stays() -> None:
    known = know(translation(CLIENT, VIRTUAL, BACKEND, HIDDEN))
    for src, dst, proto in (
        (CLIENT, BACKEND, TCP),  # directly
        (CLIENT, VIRTUAL, 17),
        (("10.0.0.1", 4001), VIRTUAL, TCP),
        (("10.96.0.1", 4000), ("10.0.0.1", 80), TCP),  # the same numbers, otherwise paired
    ):
        assert see(known, src, dst, proto)[0] == [src, dst, None, None]


def test_it_holds_until_its_end() -> None:
    known = know(translation(CLIENT, VIRTUAL, BACKEND, CLIENT), end=1000)
    assert see(known, CLIENT, VIRTUAL, time=1000)[0][1] == BACKEND
    assert see(known, CLIENT, VIRTUAL, time=1001)[0][1] == VIRTUAL


def test_the_last_word_counts() -> None:
    other = ("10.0.0.3", 8080)
    first, second = (translation(CLIENT, VIRTUAL, end, CLIENT) for end in (BACKEND, other))
    assert see(know(first, second), CLIENT, VIRTUAL)[0][1] == other
    known = know(first)
    known.learn(second, np.array([STILL_THERE]))
    assert see(known, CLIENT, VIRTUAL)[0][1] == other


def test_a_list_ends_what_is_not_in_it() -> None:
    kept = (("10.0.0.1", 4001), VIRTUAL, BACKEND, ("10.0.0.1", 4001))
    known = know(translation(CLIENT, VIRTUAL, BACKEND, CLIENT), translation(*kept))
    known.replace(translation(*kept), 500)
    assert see(known, CLIENT, VIRTUAL)[0][1] == VIRTUAL
    assert see(known, CLIENT, VIRTUAL, time=500)[0][1] == BACKEND
    assert see(known, ("10.0.0.1", 4001), VIRTUAL)[0][1] == BACKEND


def opening(source: End, destination: End) -> dict[str, np.ndarray[Any, Any]]:
    columns = FlowBatch.zeros(1, Endpoints(Strings())).columns
    for side, (address, port) in (("src", source), ("dst", destination)):
        columns[f"{side}_ip"][0] = np.frombuffer(ip(address), np.uint8)
        columns[f"{side}_port"][0] = port
    columns["proto"][0], columns["kind"][0] = TCP, Kind.open
    return columns


def test_openings_that_nothing_translates_are_returned() -> None:
    assert see(Translations(), CLIENT, VIRTUAL, kind=Kind.open)[1] == 1
    known = know(translation(CLIENT, VIRTUAL, BACKEND, CLIENT))
    other = ("10.0.0.1", 4001)
    assert see(known, other, VIRTUAL, kind=Kind.open)[1] == 1
    assert see(known, other, VIRTUAL, kind=Kind.update)[1] == 0
    assert see(known, CLIENT, VIRTUAL, kind=Kind.open)[1] == 0


@pytest.mark.parametrize("first", [1, 4096])
def test_what_was_told_too_early_is_counted_once(first: int) -> None:
    """The first connection of all, and the one that makes the table grow."""
    known = Translations()
    if first > 1:
        known.learn(many(first // 2 - 1), np.full(first // 2 - 1, STILL_THERE))
    for seen in ((CLIENT, VIRTUAL), (HIDDEN, BACKEND), (CLIENT, BACKEND)):
        known.told(opening(*seen), np.zeros(1, np.intp))
        known.told(opening(*seen), np.zeros(1, np.intp))
    assert known.late == 0
    for _ in range(2):
        known.learn(translation(CLIENT, VIRTUAL, BACKEND, HIDDEN), np.array([STILL_THERE]))
        assert known.late == 2  # as either side sees it


def test_what_is_remembered_as_told_is_bounded() -> None:
    known = Translations()
    columns = opening(CLIENT, VIRTUAL)
    for start in range(0, 60_000, 20_000):
        rows = {name: np.repeat(values, 20_000, axis=0) for name, values in columns.items()}
        rows["src_port"][:] = start + np.arange(20_000)
        known.told(rows, np.arange(20_000))
    known.told(columns, np.zeros(1, np.intp))
    known.learn(translation(CLIENT, VIRTUAL, BACKEND, CLIENT), np.array([STILL_THERE]))
    assert known.late == 1


def many(count: int) -> np.ndarray[Any, Any]:
    rows = np.repeat(translation(CLIENT, VIRTUAL, BACKEND, CLIENT), count)
    rows["source"]["port"] = rows["snat"]["port"] = 1000 + np.arange(count)
    return rows


def test_it_grows_up_to_its_bound_and_counts_what_finds_no_room() -> None:
    known = Translations(1 << 14)
    known.learn(many(20_000), np.full(20_000, STILL_THERE))
    assert len(known) == 1 << 14
    assert known.overflow == 40_000 - (1 << 14)


def test_what_is_over_makes_room() -> None:
    known = Translations(1 << 12)
    for port in range(0, 60_000, 2000):
        rows = many(2000)
        rows["source"]["port"] = rows["snat"]["port"] = port + np.arange(2000)
        known.learn(rows, np.full(2000, 1))  # ended long ago
    assert known.overflow == 0
    assert len(known) <= 1 << 12
