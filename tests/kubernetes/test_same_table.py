"""However the news comes, through breaks and new lists, the table ends as that of a fresh list."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowobs.batch import Endpoint
from flowobs.kubernetes.resources import RESOURCES
from flowobs.kubernetes.table import Table
from flowobs.kubernetes.watch import ClusterWatch
from tests.identity.fakes import ip
from tests.kubernetes import things
from tests.kubernetes.fake_api import FakeApi
from tests.kubernetes.fakes import QUICK, access, until

NAMES = ("a", "b", "c", "d")
ADDRESSES = tuple(f"10.0.0.{n}" for n in range(1, 5))
TIMING = dataclasses.replace(QUICK, least=0.004, most=0.02)


@contextlib.asynccontextmanager
async def watching(api: FakeApi) -> AsyncIterator[tuple[ClusterWatch, Table]]:
    table = Table("demo")
    watch = ClusterWatch(access(api), table, timing=TIMING)
    task = asyncio.create_task(watch.run())
    try:
        yield watch, table
    finally:
        assert not task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def state(table: Table) -> dict[str, Any]:
    now = table._now()
    found: dict[str, Any] = {a: table.by_address(ip(a), now).endpoint for a in ADDRESSES}
    found |= {p.uid: (p.name, p.addresses, table.pod_endpoint(p)) for p in table.pods.values()}
    return found | {"zones": table.zones, "namespaces": table.namespaces}


def objects(watch: ClusterWatch) -> list[int]:
    return [s.objects for s in watch.states]


def there(api: FakeApi) -> list[int]:
    return [len(api.things[resource.name]) for resource in RESOURCES]


def change(api: FakeApi, step: str, chance: random.Random) -> None:
    name, address = chance.choice(NAMES), chance.choice(ADDRESSES)
    key = "shop", name
    match step:
        case "pod":
            phase = chance.choice(["Running", "Running", "Succeeded", "Pending"])
            address = address if phase != "Pending" else ""
            started = 1_700_000_000 + chance.randrange(3)
            api.put(
                "pods", things.pod(name, *filter(None, [address]), phase=phase, started=started)
            )
        case "remove" if key in api.things["pods"]:
            api.remove("pods", *key)
        case "slice":
            pods = chance.sample(
                sorted(api.things["pods"].items()), min(2, len(api.things["pods"]))
            )
            backends = [things.backend(chance.choice(ADDRESSES), pod) for _, pod in pods]
            api.put("endpointslices", things.endpoint_slice(name, *backends))
        case "unslice" if ("shop", f"{name}-1") in api.things["endpointslices"]:
            api.remove("endpointslices", "shop", f"{name}-1")
        case "node":
            api.put("nodes", things.node(name, address, zone=chance.choice(["", "z1", "z2"])))
        case "unnode" if ("", name) in api.things["nodes"]:
            api.remove("nodes", "", name)
        case "cut":
            api.cut()
        case "compact":
            api.cut()
            api.compact()
        case "break":
            api.faults.cut_after = chance.randrange(4)
        case "refuse":
            api.faults.refuse.append((chance.choice([500, 429, 410]), ""))
        case "expire":
            api.faults.expire_watches = 1
        case "bookmark":
            api.bookmark()
        case "end":
            api.faults.end_at_once = not api.faults.end_at_once


STEPS = (
    "pod", "pod", "pod", "remove", "slice", "unslice", "node", "unnode", "cut", "compact",
    "break", "refuse", "expire", "bookmark", "end", "rest", "know", "know",
)  # fmt: skip


# a node that went and came back during a gap lost its zone
GONE_AND_BACK = "remove pod remove node pod pod pod rest unnode pod pod slice compact node"
# what went during a gap is only known by comparing
MISSED = "pod pod pod pod node know remove remove unnode compact know"


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(STEPS), min_size=5, max_size=40),
    st.sampled_from(["works", "forbidden", "etcd"]),
    st.integers(0, 1 << 30),
)
@example(GONE_AND_BACK.split(), "works", 1738306)
@example(MISSED.split(), "works", 1)
@example(MISSED.split(), "forbidden", 1)
def test_any_way_leads_to_the_table_of_a_fresh_list(
    steps: list[str], streaming: str, seed: int
) -> None:
    async def live() -> None:
        chance = random.Random(seed)
        async with FakeApi() as api:
            api.faults.streaming = streaming  # type: ignore[assignment]
            async with watching(api) as (watch, table):
                for step in steps:
                    if step == "rest":
                        await asyncio.sleep(chance.random() / 50)
                    elif step == "know":
                        await until(lambda: objects(watch) == there(api), 20)
                    else:
                        change(api, step, chance)
                api.faults.end_at_once, api.faults.cut_after = False, None
                api.faults.refuse.clear()
                async with watching(api) as (fresh, expected):
                    await until(lambda: all(s.lists and not s.stale for s in fresh.states))
                    wanted = state(expected), objects(fresh)
                    await until(lambda: (state(table), objects(watch)) == wanted, 20)

    asyncio.run(live())


async def test_churn_loses_nothing_and_keeps_the_order() -> None:
    """100 changes a second, in small: the last state of each pod is what the table has."""
    async with FakeApi() as api, watching(api) as (watch, table):
        await until(lambda: all(not s.stale for s in watch.states))
        for n in range(400):
            name = f"p{n % 40}"
            pod = things.pod(name, f"10.1.{n // 200}.{n % 200 + 1}", node=f"node-{n}")
            api.put("pods", pod)
            await asyncio.sleep(0)
        await until(lambda: len(table.pods) == 40)
        await until(
            lambda: {p.node for p in table.pods.values()} == {f"node-{n}" for n in range(360, 400)}
        )
        assert [s.lists for s in watch.states] == [1] * 5, "and all of it by the first watch"
        found = table.by_address(ip("10.1.1.200"), table._now()).endpoint
        assert isinstance(found, Endpoint) and (found.name, found.node) == ("p39", "node-399")
