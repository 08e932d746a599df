"""Endpoints of shared addresses, remembered."""

from __future__ import annotations

import numpy as np

from flowobs.batch import Endpoint, Endpoints, Strings
from flowobs.identity import Resolver, Socket
from flowobs.identity.sharers import SharerTable
from flowobs.schema import EndpointKind
from tests.identity.fakes import FakeSource


class Processes(FakeSource):
    """Every socket has an owner, named after its process."""

    def by_socket(self, socket: Socket) -> Endpoint | None:
        self.asked += 1
        return Endpoint(EndpointKind.host, workload=f"p{socket.pid}")


def workloads(table: SharerTable, endpoints: Endpoints, owners: list[int]) -> list[str]:
    base = np.zeros(len(owners), np.uint32)
    rows = table.lookup(
        base,
        np.array(owners),
        base,
        endpoints,
        lambda owner, cgroup: Socket(cgroup, owner // 10, "x"),
    )
    return [endpoints[row].workload for row in rows.tolist()]


def test_a_process_is_asked_for_once_however_many_sockets_it_has() -> None:
    source = Processes()
    table, endpoints = SharerTable(Resolver([source])), Endpoints(Strings())
    assert workloads(table, endpoints, [10, 11, 20, 10]) == ["p1", "p1", "p2", "p1"]
    assert workloads(table, endpoints, [12, 20]) == ["p1", "p2"]
    assert source.asked == 2
    table.clear()
    assert workloads(table, endpoints, [12]) == ["p1"]
    assert source.asked == 3


def test_a_full_table_starts_afresh() -> None:
    table, endpoints = SharerTable(Resolver([Processes()]), capacity=4), Endpoints(Strings())
    for first in (10, 50, 90, 130):
        owners = list(range(first, first + 100, 5))
        assert workloads(table, endpoints, owners) == [f"p{o // 10}" for o in owners]
