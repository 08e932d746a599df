from __future__ import annotations

from typing import Any

from flowobs.cli import once
from flowobs.cli.once import OnePoint

FLOW = {
    "proto": "tcp",
    "src_ip": "10.0.0.1",
    "src_port": 40000,
    "dst_ip": "10.0.0.2",
    "dst_port": 80,
    "node": "n1",
}


def row(kind: str, interface: str = "", reporter: str = "source", **other: Any) -> dict[str, Any]:
    return FLOW | {"kind": kind, "interface": interface, "reporter": reporter} | other


def test_a_flow_is_shown_from_the_first_point_that_told_of_it() -> None:
    view = OnePoint()
    assert view.shows(row("open", "va"))
    assert not view.shows(row("open", "vb", "destination"))
    assert view.shows(row("update", "va"))
    assert not view.shows(row("update", "vb", "destination"))
    assert view.shows(row("close", "va"))
    assert view.shows(row("open", "vb", "destination", src_port=40001))


def test_a_reset_that_both_ends_tell_of_is_one_and_does_not_hide_the_traffic() -> None:
    view = OnePoint()
    assert view.shows(row("open", "va"))
    assert view.shows(row("reset", reporter="destination"))
    assert not view.shows(row("reset"))
    assert view.shows(row("drop", reporter="transit"))
    assert view.shows(row("close", "va"))


def test_another_point_takes_over_when_the_first_falls_silent() -> None:
    now = [0.0]
    view = OnePoint(lambda: now[0])
    assert view.shows(row("update", "va"))
    now[0] = once.SILENT_S - 0.1
    assert not view.shows(row("update", "vb", "destination"))
    now[0] = once.SILENT_S + 0.1
    assert view.shows(row("update", "vb", "destination"))
    assert not view.shows(row("update", "va"))


def test_its_memory_is_bounded() -> None:
    view = OnePoint()
    for port in range(once.FLOWS + 100):
        view.shows(row("open", "va", src_port=port))
    assert len(view._chosen) == once.FLOWS
