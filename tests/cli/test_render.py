from __future__ import annotations

import pytest

from flowobs.cli.render import endpoint


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"src_name": "web-0", "src_namespace": "shop", "src_port": 80}, ("shop/web-0", ":80")),
        ({"src_name": "erp", "src_kind": "vm", "src_workload": "databases"}, ("erp", "")),
        ({"src_name": "pc", "src_kind": "host", "src_workload": "curl"}, ("pc/curl", "")),
        ({"src_name": "pc", "src_kind": "host"}, ("pc", "")),
        ({"src_ip": "fd00::1", "src_port": 53}, ("[fd00::1]", ":53")),
        ({"src_ip": "10.0.0.1", "src_port": 7, "proto": "icmp"}, ("10.0.0.1", "")),
    ],
)
def test_an_end_shows_what_is_known_of_it(row: dict[str, object], shown: tuple[str, str]) -> None:
    assert endpoint(row, "src") == shown
