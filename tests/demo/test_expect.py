from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from flowobs.demo import expect, plan
from flowobs.demo.expect import Edge, Map

EXPECTED = [
    Edge("shop/web-0", "shop/api-0", "tcp", 8080),
    Edge("jobs/batch-0", "shop/redis-0", "tcp", 6380, ("fails", "resets")),
]


def edge(source: str, destination: str, proto: str, port: int, **counters: int) -> dict[str, Any]:
    ends = {"source": source, "destination": destination, "proto": proto, "port": port}
    return ends | {"fails": 0, "resets": 0} | counters


def good() -> Map:
    return {
        "nodes": [
            {"id": "shop/web-0", "addresses": ["10.88.0.10", "fd00:88::10"]},
            {"id": "shop/api-0", "addresses": ["10.88.0.20"]},
        ],
        "edges": [
            edge("shop/web-0", "shop/api-0", "tcp", 8080),
            edge("jobs/batch-0", "shop/redis-0", "tcp", 6380, resets=3),
        ],
    }


def test_a_good_map_has_no_problems() -> None:
    assert expect.problems(good(), EXPECTED) == []


def test_neighbour_discovery_is_not_made_up() -> None:
    found = good()
    found["edges"].append(edge("shop/web-0", "multicast", "icmpv6", 0))

    assert expect.problems(found, EXPECTED) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda m: m["edges"].pop(0), "missing: shop/web-0 -> shop/api-0 tcp/8080"),
        (
            lambda m: m["edges"][1].update(resets=0),
            "missing: jobs/batch-0 -> shop/redis-0 tcp/6380 with fails or resets "
            "(the edge is there, these are 0)",
        ),
        (
            lambda m: m["edges"].append(deepcopy(m["edges"][0])),
            "2 times: shop/web-0 -> shop/api-0 tcp/8080",
        ),
        (
            lambda m: m["edges"].append(edge("shop/api-0", "shop/web-0", "tcp", 41234)),
            "nobody sent this: shop/api-0 -> shop/web-0 tcp/41234",
        ),
        (lambda m: m["nodes"].append({"id": "10.88.0.77"}), "no name: 10.88.0.77"),
        (lambda m: m["nodes"].append({"id": "fe80::1"}), "no name: fe80::1"),
        (
            lambda m: m["nodes"][1]["addresses"].append("10.88.0.10"),
            "two nodes have the address 10.88.0.10",
        ),
    ],
)
def test_a_problem_is_named(change: Any, problem: str) -> None:
    found = good()
    change(found)

    assert expect.problems(found, EXPECTED) == [problem]


def test_pings_count_as_one_edge_whatever_their_identifier() -> None:
    found = good()
    found["edges"] += [edge("jobs/batch-0", "shop/redis-0", "icmp", port) for port in (3856,)]

    wanted = [*EXPECTED, Edge("jobs/batch-0", "shop/redis-0", "icmp")]
    assert expect.problems(found, wanted) == []


def test_every_host_of_the_plan_is_at_an_expected_edge() -> None:
    ends = {end for edge in expect.edges() for end in edge.key[:2]}

    assert ends == {host.id for host in plan.HOSTS} | {plan.PARTNER, plan.NODE}
