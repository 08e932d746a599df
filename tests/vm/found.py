"""What the conformance program found, with questions to it."""

from __future__ import annotations

from typing import Any

from tests.vm.table import series

LOADERS = ("core", "bcc", "adapters", "kprobes", "bcc-kprobes")
"""The runs of each test; "adapters" and the like are in ``conformance.TAKEN``."""

Row = dict[str, Any]


class Run:
    """One kernel, one loader. Records are ours where an end has one of our ports: others may use
    the same addresses on this machine.
    """

    def __init__(self, found: dict[str, Any], loader: str) -> None:
        self.loader = loader
        self.kernel = tuple(map(int, series(found["kernel"]).split(".")))
        self.doctor: dict[str, Any] = found["doctor"]
        self.absent: dict[str, str] = found["absent"]
        """Kinds of links that the kernel does not have, with its words; empty: it has."""
        mine = found["runs"][loader]
        self.missing: dict[str, str] = mine["missing"]
        self.idle: list[str] = mine["idle"]
        self.dropped: dict[str, float] = mine["dropped"]
        self.unresolved: int = mine["unresolved"]
        self.out_of_scope: int = mine["out_of_scope"]
        self.ports: dict[str, list[int]] = mine["ports"]
        self._to: dict[str, str] = mine["to"]
        self.pids: dict[str, int] = mine["pids"]
        self.counters: dict[str, dict[str, int]] = mine["counters"]
        self.all_rows: list[Row] = mine["rows"]

    def rows(self, name: str, **wanted: Any) -> list[Row]:
        """Records of the step ``name`` with these values; None: without that field."""
        ports, address = self.ports[name], self._to[name]  # others may have got the same ports
        return [
            row
            for row in self.all_rows
            if row.get("src_port") in ports
            and row["dst_ip"] == address
            and all(row.get(field) == value for field, value in wanted.items())
        ]

    def total(self, field: str, **wanted: Any) -> int:
        """Sum of a field over all records with these values."""
        return sum(
            row[field]
            for row in self.all_rows
            if all(row.get(name) == value for name, value in wanted.items())
        )
