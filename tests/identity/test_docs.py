"""docs/identity.md: its example is a good inventory, and what it promises is so."""

from __future__ import annotations

import re
from pathlib import Path

from flowobs.identity import inventory_file
from flowobs.identity.prefixes import KEEP_NS
from flowobs.schema import EndpointKind

PAGE = (Path(__file__).parents[2] / "docs/identity.md").read_text()


def test_the_example_is_taken_and_shows_every_section() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    entries = inventory_file.parse(example, "example")
    assert {e.kind for e in entries.values()} == {
        EndpointKind.node,
        EndpointKind.vm,
        EndpointKind.pod,
        EndpointKind.service,
        EndpointKind.external,
    }
    for section in inventory_file.Inventory.__struct_fields__:
        assert f"\n{section}:" in f"\n{example}"


def test_the_time_a_removed_name_is_kept() -> None:
    assert f"kept for {KEEP_NS // 60_000_000_000} minutes" in PAGE
