"""However watch events, breaks and streams mix: an agent ends with the table of a fresh list."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowobs.kubernetes.table import Table
from tests.kubernetes import things
from tests.kubernetes.fake_api import FakeApi
from tests.kubernetes.fakes import QUICK, until
from tests.kubernetes.test_same_table import ADDRESSES, NAMES, change, state, there
from tests.relay.names_lab import Agent, Relay, hasty

__all__ = ["hasty"]
TIMING = dataclasses.replace(QUICK, least=0.004, most=0.02)
OWNERS = ("r1", "r2")

WATCH = (
    "pod", "pod", "pod", "remove", "slice", "unslice", "node", "unnode", "cut", "compact",
    "break", "refuse", "expire", "bookmark", "end",
)  # fmt: skip
STREAM = ("leave", "leave", "join", "join", "restart", "trim", "owned", "owner", "rest", "know")


async def step(what: str, api: FakeApi, relay: Relay, agents: list[Agent], chance: random.Random):
    agent = chance.choice(agents)
    match what:
        case "leave":
            await agent.stop()
        case "join" if not agent.running:
            agent.start()
        case "restart":
            await relay.stop()
            await relay.start()
        case "trim":
            relay.names.journal._max_deltas = chance.randrange(3)
        case "owned":
            owner = ("ReplicaSet", chance.choice(OWNERS))
            name, address = chance.choice(NAMES), chance.choice(ADDRESSES)
            api.put("pods", things.pod(name, address, owner=owner))
        case "owner":
            above = ("Deployment", chance.choice(NAMES))
            api.put("replicasets", things.owner("ReplicaSet", chance.choice(OWNERS), above))
        case "rest":
            await asyncio.sleep(chance.random() / 20)
        case "know" if agent.running:
            await until(lambda: len(agent.source.replica.known) == sum(there(api)), 20)
        case _:
            change(api, what, chance)


def relay_state(table: Table) -> dict[str, object]:
    return state(table) | {"workloads": {p.uid: p.workload for p in table.pods.values()}}


GAP = "pod leave remove pod trim pod rest pod join rest restart pod"
OWNED = "owned rest owner rest restart owned leave owner compact join"

# what went while the relay was another one is only known by comparing
MISSED = "pod pod pod pod pod know know know know restart remove remove remove remove know"


@pytest.mark.usefixtures("hasty")
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.sampled_from(WATCH + STREAM), min_size=5, max_size=40),
    st.sampled_from(["works", "forbidden", "etcd"]),
    st.integers(0, 1 << 30),
)
@example(GAP.split(), "works", 7)
@example(OWNED.split(), "etcd", 11)
@example(MISSED.split(), "works", 1)
def test_any_way_leads_to_the_table_of_a_fresh_list(
    steps: list[str], streaming: str, seed: int
) -> None:
    async def live(folder: Path) -> None:
        chance = random.Random(seed)
        async with FakeApi() as api:
            api.faults.streaming = streaming  # type: ignore[assignment]
            relay = Relay(api, folder / "sock", TIMING)
            await relay.start()
            agents = [Agent(relay, f"node-{n}") for n in range(2)]
            for agent in agents:
                agent.start()
            for what in steps:
                await step(what, api, relay, agents, chance)
            api.faults.end_at_once, api.faults.cut_after = False, None
            api.faults.refuse.clear()
            for agent in agents:
                if not agent.running:
                    agent.start()
            fresh = Relay(api, folder / "fresh", TIMING)
            await fresh.start()
            # the extras, too
            await until(lambda: all(s.lists and not s.stale for s in fresh.names.states))
            wanted = relay_state(fresh.names.table)
            for agent in agents:
                table = agent.source.table
                await until(lambda table=table: relay_state(table) == wanted, 20)
            version = relay.names.journal.version
            await until(lambda: all(a.source.replica.version >= version for a in agents))
            for agent in agents:
                await agent.stop()
            await fresh.stop()
            await relay.stop()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder)))
