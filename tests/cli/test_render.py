from __future__ import annotations

import pytest

from flowobs.cli.render import Lines, detail, endpoint


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"src_name": "web-0", "src_namespace": "shop", "src_port": 80}, ("shop/web-0", ":80")),
        ({"src_name": "erp", "src_kind": "vm", "src_workload": "databases"}, ("erp", "")),
        ({"src_name": "pc", "src_kind": "host", "src_workload": "curl"}, ("pc/curl", "")),
        ({"src_name": "pc", "src_kind": "host"}, ("pc", "")),
        (
            {"src_name": "web-0", "src_namespace": "shop", "src_identity_age": 95},
            ("shop/web-0?", ""),
        ),
        ({"src_ip": "10.0.0.1", "src_identity_age": 95}, ("10.0.0.1", "")),
        ({"src_ip": "fd00::1", "src_port": 53}, ("[fd00::1]", ":53")),
        ({"src_ip": "10.0.0.1", "src_port": 7, "proto": "icmp"}, ("10.0.0.1", "")),
    ],
)
def test_an_end_shows_what_is_known_of_it(row: dict[str, object], shown: tuple[str, str]) -> None:
    assert endpoint(row, "src") == shown


CLOSE = {
    "kind": "close",
    "close_reason": "fin_source",
    "packets": 5,
    "reply_packets": 4,
    "connect_ns": 61_000,
    "src_rtt_ns": 10_000,
    "dst_rtt_ns": 51_000,
}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "connect 61 us rtt 61 us"),
        ({"dst_srtt_us": 200}, "connect 61 us rtt 200 us"),
        ({"src_srtt_us": 100, "dst_srtt_us": 200}, "connect 61 us rtt 100 us"),
        ({"reply_retransmits": 3}, "connect 61 us rtt 61 us 0/3 retransmits"),
    ],
)
def test_a_wide_close_tells_how_it_did(more: dict[str, object], said: str) -> None:
    assert detail(CLOSE | more, wide=True).endswith(said)


def test_wide_lines_tell_how_old_names_are() -> None:
    row = {"kind": "fail", "close_reason": "refused", "dst_identity_age": 95}
    assert detail(row, wide=True) == "refused (names 1 min 35 s old)"
    assert detail(row) == "refused"


def test_wide_lines_say_where() -> None:
    line = Lines(True, False, None, [])
    row = {"kind": "drop", "node": "n1", "reporter": "transit", "netns": 4026532461}
    assert " n1 netns:4026532461 transit " in line(row)
    assert " n1 veth0 " in line(row | {"interface": "veth0"})
    assert " n1 - " in line({"kind": "open", "node": "n1"})


def test_a_narrow_close_tells_of_trouble_only() -> None:
    assert "connect" not in detail(CLOSE)
    trouble = CLOSE | {"retransmits": 2, "zero_windows": 1}
    assert detail(trouble).endswith("2/0 retransmits 1/0 zero windows")


def test_nat_says_what_was_asked_for_and_what_is_seen() -> None:
    nat = {"virtual_ip": "10.96.0.10", "virtual_port": 80, "snat_ip": "fd00::1", "snat_port": 20001}
    assert detail(CLOSE | nat).endswith("via 10.96.0.10:80")
    assert detail(CLOSE | nat, wide=True).endswith("via 10.96.0.10:80 seen as [fd00::1]:20001")
    assert detail(CLOSE | nat | {"proto": "icmp"}).endswith("via 10.96.0.10")


ERROR = {"kind": "icmp_error", "src_ip": "10.0.0.1", "icmp_type": 3, "icmp_ip": "10.0.0.9"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ERROR | {"icmp_code": 3}, "icmp error: port unreachable (from 10.0.0.9)"),
        (ERROR | {"icmp_code": 4, "lost": 7}, "fragmentation needed (from 10.0.0.9) (+7 alike)"),
        (ERROR | {"icmp_code": 99}, "icmp error: unreachable, code 99 (from 10.0.0.9)"),
        (ERROR | {"icmp_type": 77}, "icmp error: type 77 code 0 (from 10.0.0.9)"),
        (
            {"kind": "icmp_error", "src_ip": "fd00::1", "icmp_type": 2, "icmp_ip": "fd00::9"},
            "icmp error: packet too big (from fd00::9)",
        ),
    ],
)
def test_an_icmp_error_says_what_and_who(row: dict[str, object], said: str) -> None:
    assert detail(row).endswith(said)


def test_what_was_in_a_tunnel_says_so() -> None:
    ends = {"tunnel_src_ip": "10.0.0.1", "tunnel_dst_ip": "fd00::1"}
    row = {"kind": "open", "tunnel": "vxlan", "tunnel_id": 42, **ends}
    assert detail(row) == "in vxlan 42"
    assert detail(row, wide=True) == "in vxlan 42 10.0.0.1 -> fd00::1"
    assert detail({"kind": "open", "tunnel": "ipip"}) == "in ipip"
