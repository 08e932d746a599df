from __future__ import annotations

import errno
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowobs.agent.decode import _KEY_PAIRS, Decoded, Decoder
from flowobs.agent.drain import CounterDeltas, Overflow
from flowobs.agent.records import (
    CLOSER,
    EVENT,
    FLOW,
    FLOW_KEY,
    FLOW_STATE,
    RECORD_VERSION,
    STATS,
)
from flowobs.batch import Endpoints, Strings
from flowobs.schema import Cast, CloseReason, Kind, Tunnel, Verdict

A = bytes(10) + b"\xff\xff\x0a\0\0\1"
B = bytes(10) + b"\xff\xff\x0a\0\0\2"
OFFSET = 1_700_000_000_000_000_000


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(Endpoints(Strings()), {3: "NO_SOCKET", 76: "NETFILTER_DROP"})


def fill(row: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        row[name] = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value


def key(**values: Any) -> Any:
    one = np.zeros(1, FLOW_KEY.dtype)[0]
    tcp = {"addr_a": A, "addr_b": B, "port_a": 40000, "port_b": 80, "proto": 6, "family": 4}
    fill(one, tcp | {"ifindex": 7} | values)
    return one


def flow(**values: Any) -> Any:
    one = np.zeros(1, FLOW.dtype)[0]
    fill(
        one,
        {
            "packets": (5, 3),
            "bytes": (500, 3000),
            "last_ns": 9_000,
            "start_ns": 1_000,
            "cookie": (11, 22),
            "cgroup": (111, 222),
            "tcp_flags": (0x02, 0x12),
            "connect_ns": 70_000,
            "rtt_ns": (10_000, 60_000),
            "srtt_us": (65, 40),
            "zero_windows": (0, 2),
        }
        | values,
    )
    return one


def event(kind: int, *, of: Any = None, **values: Any) -> Any:
    one = np.zeros(1, EVENT.dtype)[0]
    one["key"] = key() if of is None else of
    fill(one, {"version": RECORD_VERSION, "kind": kind, "time_ns": 5_000} | values)
    return one


def row(decoded: Decoded, at: int = 0) -> dict[str, Any]:
    batch = decoded.batch
    found = {name: batch[name][at].tolist() for name in batch.columns}
    found |= {"src_ip": batch["src_ip"][at].tobytes(), "dst_ip": batch["dst_ip"][at].tobytes()}
    return found | {"drop_reason": batch.strings("drop_reason")[at]}


def decoded_flow(decoder: Decoder, of: Any = None, **values: Any) -> Decoded:
    keys = np.array([key() if of is None else of])
    return decoder.flows(keys, np.array([flow(**values)]), OFFSET)


def decoded_event(decoder: Decoder, kind: Kind, **values: Any) -> dict[str, Any]:
    return row(decoder.events(np.array([event(kind, **values)]), OFFSET))


def test_addresses_and_ports_are_where_pairs_are_read() -> None:
    both = np.array([key()]).view(_KEY_PAIRS)[0]
    assert ([ip.tobytes() for ip in both["ip"]], both["port"].tolist()) == ([A, B], [40000, 80])


def test_opened_by_a(decoder: Decoder) -> None:
    found = row(decoded_flow(decoder, initiator=0))

    assert (found["src_ip"], found["dst_ip"]) == (A, B)
    assert (found["src_port"], found["dst_port"]) == (40000, 80)
    assert (found["packets"], found["bytes"]) == (5, 500)
    assert (found["reply_packets"], found["reply_bytes"]) == (3, 3000)
    assert (found["src_cookie"], found["dst_cookie"]) == (11, 22)
    assert (found["src_cgroup"], found["dst_cgroup"]) == (111, 222)
    assert (found["tcp_flags"], found["reply_tcp_flags"]) == (0x02, 0x12)
    assert (found["kind"], found["verdict"]) == (Kind.update, Verdict.forwarded)
    assert (found["time"], found["duration"]) == (OFFSET + 9_000, 8_000)


def test_tcp_health(decoder: Decoder) -> None:
    found = row(decoded_flow(decoder))
    assert (found["connect_ns"], found["src_rtt_ns"], found["dst_rtt_ns"]) == (
        70_000,
        10_000,
        60_000,
    )
    assert (found["src_srtt_us"], found["dst_srtt_us"]) == (65, 40)
    assert (found["zero_windows"], found["reply_zero_windows"]) == (0, 2)
    assert (found["retransmits"], found["reply_retransmits"]) == (0, 0)


def test_retransmits_belong_to_the_records_with_the_counts(decoder: Decoder) -> None:
    keys = np.array([key(), key(port_a=40001)])
    lost = FLOW_STATE["FLOW_OPEN_LATE"][0]
    flows = np.array([flow(), flow(initiator=1, state=lost)])
    batch = decoder.flows(keys, flows, OFFSET, np.array([(3, 0), (4, 1)], np.uint32)).batch
    assert batch["kind"].tolist() == [Kind.update, Kind.update, Kind.open]
    assert batch["retransmits"].tolist() == [3, 1, 0]
    assert batch["reply_retransmits"].tolist() == [0, 4, 0]


def test_opened_by_b_is_the_same_the_other_way_round(decoder: Decoder) -> None:
    straight, turned = (row(decoded_flow(decoder, initiator=i)) for i in (0, 1))

    for name in ("ip", "port", "cookie", "cgroup", "rtt_ns", "srtt_us"):
        assert turned[f"src_{name}"] == straight[f"dst_{name}"]
        assert turned[f"dst_{name}"] == straight[f"src_{name}"]
    for name in ("packets", "bytes", "tcp_flags", "zero_windows"):
        assert turned[name] == straight[f"reply_{name}"]
        assert turned[f"reply_{name}"] == straight[name]


@pytest.mark.parametrize(
    ("initiator", "egress", "source_leaves"),
    [(0, 0, False), (0, 1, True), (1, 0, True), (1, 1, False)],
)
def test_side_of_the_interface(
    decoder: Decoder, initiator: int, egress: int, source_leaves: bool
) -> None:
    found = decoded_flow(decoder, key(egress=egress), initiator=initiator)

    assert found.egress.tolist() == [source_leaves]
    assert found.ifindex.tolist() == [7]
    assert found.netns.tolist() == [0]


@pytest.mark.parametrize(
    ("closer", "initiator", "reason"),
    [
        ("CLOSER_FIN_A", 0, CloseReason.fin_source),
        ("CLOSER_FIN_A", 1, CloseReason.fin_destination),
        ("CLOSER_FIN_B", 0, CloseReason.fin_destination),
        ("CLOSER_FIN_B", 1, CloseReason.fin_source),
        ("CLOSER_RST_A", 0, CloseReason.reset_source),
        ("CLOSER_RST_A", 1, CloseReason.reset_destination),
        ("CLOSER_RST_B", 0, CloseReason.reset_destination),
        ("CLOSER_RST_B", 1, CloseReason.reset_source),
        ("CLOSER_TIMEOUT", 0, CloseReason.timeout),
        ("CLOSER_TIMEOUT", 1, CloseReason.timeout),
        ("CLOSER_UNREACHABLE", 0, CloseReason.unreachable),
    ],
)
def test_how_it_ended(decoder: Decoder, closer: str, initiator: int, reason: CloseReason) -> None:
    fin = (1, 1) if "FIN" in closer else (0, 0)
    number = CLOSER[closer][0]
    found = row(decoded_flow(decoder, initiator=initiator, closer=number, fin=fin))

    assert (found["kind"], found["close_reason"]) == (Kind.close, reason)
    assert found["packets"] + found["reply_packets"] == 8  # a close carries the last counts


def test_one_fin_is_not_the_end(decoder: Decoder) -> None:
    found = row(decoded_flow(decoder, closer=CLOSER["CLOSER_FIN_A"][0], fin=(1, 0)))
    assert (found["kind"], found["close_reason"]) == (Kind.update, CloseReason.none)


def test_stragglers_do_not_close_again(decoder: Decoder) -> None:
    before = FLOW_STATE["FLOW_CLOSED_BEFORE"][0]
    found = row(decoded_flow(decoder, closer=3, fin=(1, 1), state=before))
    assert (found["kind"], found["close_reason"]) == (Kind.update, CloseReason.none)


def test_a_lost_opening_is_made_good(decoder: Decoder) -> None:
    keys = np.array([key(), key(port_a=40001)])
    lost = FLOW_STATE["FLOW_OPEN_LATE"][0]
    flows = np.array([flow(), flow(initiator=1, state=lost, closer=3)])

    decoded = decoder.flows(keys, flows, OFFSET)

    assert decoded.batch["kind"].tolist() == [Kind.update, Kind.close, Kind.open]
    opened = row(decoded, 2)
    assert opened["time"] == OFFSET + 1_000
    assert (opened["dst_port"], opened["dst_ip"]) == (40001, A)
    assert opened["src_cookie"] == 22
    counters = ("packets", "bytes", "tcp_flags", "duration", "close_reason", "zero_windows")
    assert [opened[n] or opened.get(f"reply_{n}", 0) for n in counters] == [0] * 6
    health = ("connect_ns", "src_rtt_ns", "dst_rtt_ns", "src_srtt_us", "dst_srtt_us")
    assert [opened[n] for n in health] == [0] * 5
    assert len(decoded.ifindex) == len(decoded.egress) == len(decoded.netns) == 3


def test_a_last_packet_before_the_first_has_no_duration(decoder: Decoder) -> None:
    assert row(decoded_flow(decoder, last_ns=900))["duration"] == 0


def test_icmp_and_vlan(decoder: Decoder) -> None:
    ping = key(proto=1, icmp=8 << 8 | 3, port_a=77, port_b=77, vlan=42)
    found = row(decoded_flow(decoder, ping))
    assert (found["icmp_type"], found["icmp_code"], found["src_port"]) == (8, 3, 77)
    assert found["vlan"] == 42
    tcp = row(decoded_flow(decoder, key(icmp=8 << 8)))
    assert tcp["icmp_type"] == 0


def test_nothing_to_decode(decoder: Decoder) -> None:
    nothing = decoder.flows(np.zeros(0, FLOW_KEY.dtype), np.zeros(0, FLOW.dtype), OFFSET)
    assert len(nothing.batch) == len(decoder.events(np.zeros(0, EVENT.dtype), OFFSET).batch) == 0


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        (Kind.open, Verdict.forwarded),
        (Kind.close, Verdict.forwarded),
        (Kind.retransmit, Verdict.forwarded),
        (Kind.reset, Verdict.forwarded),
        (Kind.drop, Verdict.dropped),
        (Kind.fail, Verdict.error),
    ],
)
def test_events(decoder: Decoder, kind: Kind, verdict: Verdict) -> None:
    found = decoded_event(decoder, kind, cookie=(5, 6), held=9, tcp_flags=(2, 0))

    assert (found["kind"], found["verdict"], found["time"]) == (kind, verdict, OFFSET + 5_000)
    assert (found["src_cookie"], found["dst_cookie"]) == (5, 6)
    assert (found["lost"], found["tcp_flags"]) == (9, 2)
    assert found["packets"] == found["bytes"] == 0


@pytest.mark.parametrize(
    ("initiator", "direction", "reply"), [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
)
def test_reply_and_whose_process(
    decoder: Decoder, initiator: int, direction: int, reply: int
) -> None:
    found = decoded_event(decoder, Kind.drop, initiator=initiator, direction=direction, pid=99)

    assert found["reply"] == reply
    assert (found["src_pid"], found["dst_pid"]) == ((0, 99) if reply else (99, 0))
    assert found["src_ip"] == (B if initiator else A)


def test_drop_reasons(decoder: Decoder) -> None:
    subsystem = (3 << 16) + 5
    numbers = (76, 3, 50, 77, subsystem, 50)
    events = np.array([event(Kind.drop, reason=n) for n in numbers])

    found = decoder.events(events, OFFSET).batch.strings("drop_reason")

    assert found == ["NETFILTER_DROP", "NO_SOCKET", "50", "77", str(subsystem), "50"]


def test_a_new_table_of_endpoints(decoder: Decoder) -> None:
    assert decoded_event(decoder, Kind.drop, reason=3)["drop_reason"] == "NO_SOCKET"
    decoder.endpoints = Endpoints(Strings())
    found = decoder.events(np.array([event(Kind.drop, reason=76)]), OFFSET).batch
    assert found.endpoints is decoder.endpoints
    assert found.strings("drop_reason") == ["NETFILTER_DROP"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ECONNREFUSED, CloseReason.refused),
        (errno.ETIMEDOUT, CloseReason.timeout),
        (errno.EHOSTUNREACH, CloseReason.unreachable),
        (errno.ENETUNREACH, CloseReason.unreachable),
        (0, CloseReason.aborted),
        (errno.EPIPE, CloseReason.aborted),
        (70_000, CloseReason.aborted),
    ],
)
def test_why_an_attempt_failed(decoder: Decoder, number: int, reason: CloseReason) -> None:
    assert decoded_event(decoder, Kind.fail, reason=number)["close_reason"] == reason


def test_close_event(decoder: Decoder) -> None:
    found = decoded_event(decoder, Kind.close, closer=CLOSER["CLOSER_RST_B"][0], initiator=1)
    assert found["close_reason"] == CloseReason.reset_source


def test_events_of_another_namespace(decoder: Decoder) -> None:
    events = np.array([event(Kind.reset, of=key(ifindex=0), netns=4026531840)])
    found = decoder.events(events, OFFSET)
    assert (found.netns.tolist(), found.ifindex.tolist()) == ([4026531840], [0])
    assert row(found)["netns"] == 4026531840


def test_what_is_not_known_is_dropped_and_counted(decoder: Decoder) -> None:
    events = np.array(
        [
            event(Kind.open),
            event(Kind.open, version=RECORD_VERSION + 1),
            event(Kind.update),
            event(200),
        ]
    )
    assert len(decoder.events(events, OFFSET).batch) == 1
    assert (decoder.take_unknown(), decoder.take_unknown()) == (3, 0)


@given(st.binary(min_size=EVENT.dtype.itemsize * 8, max_size=EVENT.dtype.itemsize * 8))
def test_any_bytes_decode(data: bytes) -> None:
    decoder = Decoder(Endpoints(Strings()), {3: "NO_SOCKET"})
    events = np.frombuffer(data, EVENT.dtype).copy()
    events["version"] = RECORD_VERSION
    assert len(decoder.events(events, OFFSET).batch) <= 8
    flows = np.frombuffer(data[: FLOW.dtype.itemsize * 4], FLOW.dtype)
    keys = np.frombuffer(data[: FLOW_KEY.dtype.itemsize * 4], FLOW_KEY.dtype)
    assert 4 <= len(decoder.flows(keys, flows, OFFSET).batch) <= 8


def deltas(stats: dict[str, tuple[int, int]], rows: list[tuple[int, int, int, int]]) -> Any:
    proto, egress, packets, size = np.array(rows, np.uint64).reshape(-1, 4).T
    names = {n.removeprefix("STAT_").lower(): (0, 0) for n in STATS} | {"missed_run": (0, 0)}
    return CounterDeltas(
        names | stats, Overflow(proto.astype("u1"), egress.astype("u1"), packets, size)
    )


def test_losses_become_records(decoder: Decoder) -> None:
    found = decoder.losses(
        deltas({"event_lost": (4, 0), "map_full": (12, 900)}, [(6, 0, 10, 700), (17, 1, 2, 200)]),
        OFFSET,
    )

    assert found is not None
    batch = found.batch
    assert batch["kind"].tolist() == [Kind.lost] * 3
    assert batch["verdict"].tolist() == [Verdict.unknown] * 3
    assert batch.strings("drop_reason") == ["map_full", "map_full", "ring_full"]
    assert batch["lost"].tolist() == [10, 2, 4]
    assert (batch["packets"].tolist(), batch["bytes"].tolist()) == ([10, 2, 0], [700, 200, 0])
    assert batch["proto"].tolist() == [6, 17, 0]
    assert batch["time"].tolist() == [OFFSET] * 3


def test_each_reason_of_a_loss_is_a_record(decoder: Decoder) -> None:
    lost = {"missed_run": (1, 0), "held_full": (2, 0), "retransmits_full": (3, 0)}
    found = decoder.losses(deltas(lost, []), OFFSET)
    assert found is not None
    told = zip(found.batch.strings("drop_reason"), found.batch["lost"].tolist(), strict=True)
    assert dict(told) == {"interrupted": 1, "held_full": 2, "retransmits_full": 3}


def test_no_loss_no_record(decoder: Decoder) -> None:
    assert decoder.losses(deltas({"event_sent": (5, 0)}, []), OFFSET) is None


MORE = FLOW_STATE["FLOW_BROADCAST"][0]
OUTER_A, OUTER_B = (bytes(10) + b"\xff\xff\xac\x10\0" + bytes((n,)) for n in (1, 2))


def mapped(*numbers: int) -> bytes:
    return bytes(10) + b"\xff\xff" + bytes(numbers)


@pytest.mark.parametrize("initiator", [0, 1])
@pytest.mark.parametrize("numbers", [(7, 7), (7, 8), (7, 0), (0, 8)])
def test_a_tunnel_has_the_ends_of_its_flow(
    decoder: Decoder, initiator: int, numbers: tuple[int, int]
) -> None:
    ends = np.frombuffer(OUTER_A + OUTER_B, "<u8")
    inside = flow(initiator=initiator, tunnel_id=numbers, tunnel_ends=ends)
    keys = np.array([key(), key(tunnel=Tunnel.geneve)])
    decoded = decoder.flows(keys, np.array([flow(), inside]), OFFSET)
    plain, found = row(decoded), row(decoded, 1)
    there, back = numbers[initiator], numbers[1 - initiator]
    assert (found["tunnel"], found["tunnel_id"]) == (Tunnel.geneve, there or back)
    outer = bytes(found["tunnel_src_ip"]), bytes(found["tunnel_dst_ip"])
    assert outer == ((OUTER_A, OUTER_B) if initiator == 0 else (OUTER_B, OUTER_A))
    assert not any(np.any(plain[name]) for name in plain if "tunnel" in name)


@pytest.mark.parametrize("initiator", [0, 1])
def test_the_close_of_a_flow_in_a_tunnel_has_the_ends_of_before(
    decoder: Decoder, initiator: int
) -> None:
    """A timeout, or the same ports again: the event itself has no room for them."""
    ends = np.frombuffer(OUTER_A + OUTER_B, "<u8")
    inside, other = key(tunnel=Tunnel.vxlan), key(tunnel=Tunnel.vxlan, port_a=40001)
    flows = np.array([flow(), flow(tunnel_id=(7, 7), tunnel_ends=ends)])
    decoder.flows(np.array([key(), inside]), flows, OFFSET)
    closes = [event(Kind.close, of=k, initiator=initiator) for k in (inside, other, key())]
    decoded = decoder.events(np.array(closes), OFFSET)
    found, unknown, plain = (row(decoded, at) for at in range(3))
    assert (found["tunnel"], found["tunnel_id"]) == (Tunnel.vxlan, 7)
    outer = bytes(found["tunnel_src_ip"]), bytes(found["tunnel_dst_ip"])
    assert outer == ((OUTER_A, OUTER_B) if initiator == 0 else (OUTER_B, OUTER_A))
    assert unknown["tunnel"] == Tunnel.vxlan
    assert not unknown["tunnel_id"] and not any(unknown["tunnel_src_ip"])
    assert not any(np.any(plain[name]) for name in plain if "tunnel" in name)


@pytest.mark.parametrize(
    ("address", "state", "cast"),
    [
        (B, 0, Cast.unicast),
        (mapped(223, 255, 255, 255), 0, Cast.unicast),
        (mapped(224, 0, 0, 1), 0, Cast.multicast),
        (mapped(239, 255, 255, 255), 0, Cast.multicast),
        (mapped(240, 0, 0, 1), 0, Cast.unicast),
        (mapped(255, 255, 255, 255), 0, Cast.broadcast),
        (mapped(10, 0, 0, 255), MORE, Cast.broadcast),
        (mapped(224, 0, 0, 1), MORE, Cast.multicast),
        (b"\xff\x02" + bytes(14), 0, Cast.multicast),
        (b"\xfe\x80" + bytes(14), 0, Cast.unicast),
        (bytes(12) + b"\xe0\0\0\1", 0, Cast.unicast),
    ],
)
def test_to_how_many_an_address_is(
    decoder: Decoder, address: bytes, state: int, cast: Cast
) -> None:
    to = key(addr_b=address)
    assert row(decoder.flows(np.array([to]), np.array([flow(state=state)]), OFFSET))["cast"] == cast
    opened = decoder.events(np.array([event(Kind.open, of=to, state=state)]), OFFSET)
    assert row(opened)["cast"] == cast


def test_an_icmp_error_tells_of_the_flow_it_quotes(decoder: Decoder) -> None:
    sender = np.frombuffer(OUTER_A, "<u8")
    of = key(proto=17)
    errors = [
        event(Kind.icmp_error, of=of, reason=3 << 8 | 4, cookie=(33, 44), cgroup=sender, held=9),
        event(Kind.open, of=of, cookie=(11, 22), cgroup=(55, 66)),
    ]
    decoded = decoder.events(np.array(errors), OFFSET)
    told, opened = row(decoded), row(decoded, 1)
    assert (told["icmp_type"], told["icmp_code"], told["lost"]) == (3, 4, 9)
    assert bytes(told["icmp_ip"]) == OUTER_A and not any(opened["icmp_ip"])
    assert (told["src_cookie"], told["dst_cookie"], opened["dst_cookie"]) == (33, 44, 22)
    assert (told["src_cgroup"], told["dst_cgroup"], opened["dst_cgroup"]) == (0, 0, 66)
    assert (told["verdict"], told["proto"], opened["icmp_type"]) == (Verdict.error, 17, 0)
