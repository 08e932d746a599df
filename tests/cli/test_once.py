"""A flow is read once. The same cases hold the web map to the same rule (ui/test/once.test.ts)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowobs.cli import once
from flowobs.cli.once import OnePoint

CASES: dict[str, list[dict[str, Any]]] = json.loads(
    Path(__file__).with_name("once_cases.json").read_text()
)


@pytest.mark.parametrize("name", CASES)
def test_a_flow_is_shown_from_one_point(name: str) -> None:
    view = OnePoint()
    assert [view.shows(case["record"]) for case in CASES[name]] == [c["shown"] for c in CASES[name]]


def test_its_memory_is_bounded() -> None:
    view, (case, *_) = OnePoint(), next(iter(CASES.values()))
    for port in range(once.FLOWS + 100):
        view.shows(case["record"] | {"src_port": port})
    assert len(view._chosen) == once.FLOWS
