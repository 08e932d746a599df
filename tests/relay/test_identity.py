"""The relay's names reach its agents: snapshot, deltas, resume, freshness, and what is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc.aio._call import StreamStreamCall

from flowobs._proto.flowobs.v1 import identity_pb2 as pb
from flowobs.batch import Endpoint
from flowobs.identity import numbers
from flowobs.kubernetes.backoff import Timing
from flowobs.kubernetes.freshness import ResourceState
from flowobs.kubernetes.stream import StreamSource
from flowobs.schema import EndpointKind
from relay.ingest import SERVER_OPTIONS
from tests.identity.fakes import ip
from tests.kubernetes import things
from tests.kubernetes.fake_api import FakeApi
from tests.kubernetes.fakes import QUICK, until
from tests.relay.names_lab import Agent, Relay, following, hasty, relaying

__all__ = ["hasty"]
pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as server:
        server.put("nodes", things.node("node-1", "192.0.2.1", zone="z1"))
        server.put("pods", things.pod("web", "10.0.0.1"))
        server.put("pods", things.pod("elsewhere", "10.0.0.2", node="node-2"))
        server.put("services", things.service("web", "10.96.0.1"))
        server.put("networkpolicies", things.policy("deny"))
        yield server


@pytest.fixture
async def relay(api: FakeApi, tmp_path: Path) -> AsyncIterator[Relay]:
    async with relaying(api, tmp_path / "sock") as made:
        yield made


def name(source: StreamSource, address: str) -> Endpoint | None:
    return source.by_address(ip(address), source.table._now()).endpoint


def called(source: StreamSource, address: str) -> str:
    found = name(source, address)
    return found.name if found is not None else ""


async def test_agents_get_all_there_is_and_every_change(api: FakeApi, relay: Relay) -> None:
    async with following(relay) as source:
        assert await source.known(60)
        assert name(source, "10.0.0.2") == Endpoint(
            EndpointKind.pod, "", "shop", "elsewhere", "elsewhere", "Pod", "", "node-2", "",
            "kubernetes", labels="app=elsewhere",
            identity=numbers.of_labels("", "shop", {"app": "elsewhere"}),
        )  # fmt: skip
        assert called(source, "10.96.0.1") == "web" and source.table.zones == {"node-1": "z1"}
        api.put("pods", things.pod("new", "10.0.0.3", node="node-3"))
        await until(lambda: called(source, "10.0.0.3") == "new")
        api.remove("pods", "shop", "web")
        await until(lambda: not called(source, "10.0.0.1"))
        assert source.replica.snapshots == 1 and source.replica.changes == 2


async def test_a_message_is_made_once_for_all(api: FakeApi, relay: Relay) -> None:
    agents = [Agent(relay, f"node-{n}") for n in range(5)]
    for agent in agents:
        agent.start()
    for agent in agents:
        assert await agent.source.known(60)
    api.put("pods", things.pod("new", "10.0.0.3"))
    await until(lambda: all(called(a.source, "10.0.0.3") for a in agents))
    assert relay.names.journal.snapshots == 1 and relay.names.service.snapshots == 5
    first = relay.names.journal.after(1)[0]
    assert first is relay.names.journal.after(1)[0]
    for agent in agents:
        await agent.stop()


async def test_an_agent_goes_on_where_it_was(api: FakeApi, relay: Relay) -> None:
    agent = Agent(relay)
    agent.start()
    assert await agent.source.known(60)
    await agent.stop()
    api.remove("pods", "shop", "web")
    api.put("pods", things.pod("successor", "10.0.0.1", started=1_700_001_000))
    await until(lambda: relay.names.journal.version > 1)
    assert called(agent.source, "10.0.0.1") == "web", "of before, until better is known"
    agent.start()
    await until(lambda: called(agent.source, "10.0.0.1") == "successor")
    assert agent.source.replica.snapshots == 1 and relay.names.service.resumed == 1
    await agent.stop()


async def test_too_far_behind_gets_a_snapshot(api: FakeApi, relay: Relay) -> None:
    relay.names.journal._max_deltas = 3
    agent = Agent(relay)
    agent.start()
    assert await agent.source.known(60)
    await agent.stop()
    api.remove("pods", "shop", "web")
    for n in range(6):
        version = relay.names.journal.version
        api.put("pods", things.pod("busy", "10.0.0.9", node=f"node-{n}"))
        await until(lambda version=version: relay.names.journal.version > version)
    agent.start()
    await until(lambda: agent.source.replica.snapshots == 2)
    assert not called(agent.source, "10.0.0.1") and called(agent.source, "10.0.0.9") == "busy"
    assert relay.names.service.resumed == 0
    await agent.stop()


async def test_a_relay_that_started_again_is_compared_with(api: FakeApi, relay: Relay) -> None:
    async with following(relay) as source:
        assert await source.known(60)
        await relay.stop()
        api.remove("pods", "shop", "web")
        api.put("pods", things.pod("new", "10.0.0.3"))
        await until(lambda: source.problem)
        assert called(source, "10.0.0.2") == "elsewhere", "what was known stays in use"
        puts = count_puts(source)
        await relay.start()
        await until(lambda: source.replica.snapshots == 2)
        assert called(source, "10.0.0.3") == "new" and not called(source, "10.0.0.1")
        assert puts == ["new"], "what is as it was is not put again"
        assert source.problem == ""
        version = relay.names.journal.version
        await until(lambda: relay.names.status()["agents"][0]["version"] == version)


def count_puts(source: StreamSource) -> list[str]:
    seen: list[str] = []
    table_put = source.table.put

    def put(thing, since_ns):
        seen.append(thing.metadata.name)
        table_put(thing, since_ns)

    source.table.put = put  # type: ignore[method-assign]
    return seen


async def test_the_relays_doubts_are_the_agents(api: FakeApi, relay: Relay) -> None:
    async with following(relay) as source:
        assert await source.known(60)
        await until(lambda: len(source.states) == 9 and not source.stale)
        states = {s.resource: s for s in source.states}
        assert states["pods"].objects == 2 and states["networkpolicies"].objects == 1
        assert not source.stale and states["relay"].objects == 4
        api.faults.refuse_all = 503
        api.cut()

        def pods() -> ResourceState:
            return next(s for s in source.states if s.resource == "pods")

        # the cut itself is what it tells of first
        await until(lambda: pods().stale and "503" in pods().problem)
        assert pods().age > 0
        assert called(source, "10.0.0.1") == "web"
        api.faults.refuse_all = 0
        await until(lambda: not source.stale)


async def test_a_silent_relay_makes_names_stale(api: FakeApi, relay: Relay) -> None:
    now = 0.0
    agent = Agent(relay, clock=lambda: now)
    agent.start()
    assert await agent.source.known(60)
    await until(lambda: not agent.source.stale)
    await agent.stop()
    now = 14.0
    assert not agent.source.stale
    now = 16.0
    assert agent.source.stale and agent.source.silence == 16
    assert all(s.stale and s.age >= 16 for s in agent.source.states)


async def test_agents_wait_for_a_relay_that_does_not_know_yet(tmp_path: Path) -> None:
    async with FakeApi() as api:
        api.faults.refuse_all = 500
        async with relaying(api, tmp_path / "sock") as relay, following(relay) as source:
            assert not await source.known(0.3)
            await until(lambda: source.stale and len(source.states) == 9)
            api.put("pods", things.pod("web", "10.0.0.1"))
            api.faults.refuse_all = 0
            assert await source.known(60)
            assert called(source, "10.0.0.1") == "web"


async def test_a_relay_without_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As one that is older, or runs outside of a cluster."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_insecure_port(f"unix:{tmp_path}/sock")
    await server.start()
    source = StreamSource(
        lambda: grpc.aio.insecure_channel(f"unix:{tmp_path}/sock"), agent="node-1"
    )
    task = asyncio.create_task(source.run())
    assert not await source.known(60)
    assert source.offered is False
    assert source.problem == (
        "the relay gives no names: start it with --kubernetes, or update it if it is older"
    )
    assert not caplog.records, "nothing is wrong: the agent says it once where it starts"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await server.stop(0)


async def test_a_refusal_that_meets_the_first_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpc.aio then has an internal error of its own in place of what the relay said."""
    write = StreamStreamCall._write

    async def late(self: StreamStreamCall, request: object) -> None:
        await self._metadata_sent.wait()
        time.sleep(0.05)  # noqa: ASYNC251 - nothing of this loop runs while the relay refuses
        await write(self, request)

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_insecure_port(f"unix:{tmp_path}/sock")
    server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/sock") as channel:
        source = StreamSource(lambda: channel, agent="node-1")
        with monkeypatch.context() as patched:
            patched.setattr(StreamStreamCall, "_write", late)
            await source._attempt(channel)
    assert source.offered is False, source.problem
    await asyncio.to_thread(server.stop(0).wait)


async def test_workloads_by_their_owners(api: FakeApi, relay: Relay) -> None:
    """Where the relay may look: no rule for names would know these."""
    api.put("pods", things.pod("a", "10.0.1.1", owner=("ReplicaSet", "web-v2")))
    api.put("pods", things.pod("b", "10.0.1.2", owner=("Job", "db-migrate")))
    async with following(relay) as source:
        assert await source.known(60)
        await until(lambda: called(source, "10.0.1.2"))
        a = name(source, "10.0.1.1")
        assert a is not None and (a.workload_kind, a.workload) == ("ReplicaSet", "web-v2")
        api.put("replicasets", things.owner("ReplicaSet", "web-v2", ("Deployment", "web")))
        api.put("jobs", things.owner("Job", "db-migrate", ("CronJob", "db")))
        await until(lambda: getattr(name(source, "10.0.1.2"), "workload_kind", "") == "CronJob")
        await until(lambda: getattr(name(source, "10.0.1.1"), "workload", "") == "web")
        # what comes later is known at once
        api.put("pods", things.pod("c", "10.0.1.3", owner=("ReplicaSet", "web-v2")))
        await until(lambda: called(source, "10.0.1.3"))
        c = name(source, "10.0.1.3")
        assert c is not None and (c.workload_kind, c.workload) == ("Deployment", "web")


async def test_without_leave_for_the_extras(
    api: FakeApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    api.faults.forbidden = {"replicasets", "jobs", "networkpolicies"}
    quick = dataclasses.replace(QUICK, least=0.001, most=0.01)
    async with relaying(api, tmp_path / "sock", quick) as relay, following(relay) as source:
        assert await source.known(60)
        await asyncio.sleep(0.5)
        asked = [r.resource for r in api.requests]
        assert all(asked.count(r) == 1 for r in api.faults.forbidden), "asked once, and not again"
        assert caplog.text.count("names go without jobs") == 1
        assert not source.stale
        found = {r["resource"]: r for r in relay.names.status()["resources"]}
        assert found["jobs"]["off"] and not found["jobs"]["stale"] and found["jobs"]["problem"]


async def test_what_is_asked_of_the_api_server(api: FakeApi, relay: Relay) -> None:
    """A request for each resource, whatever the agents and the changes; extras by metadata."""
    async with following(relay, "a") as one, following(relay, "b") as two:
        assert await one.known(60) and await two.known(60)
        for n in range(200):
            api.put("pods", things.pod(f"p{n % 20}", f"10.2.0.{n % 20 + 1}", node=f"n{n}"))
            await asyncio.sleep(0)
        await until(lambda: one.replica.changes >= 200 and two.replica.changes >= 200)
        resources = sorted(r.resource for r in api.requests)
        assert resources == sorted(api.things), "one request each, which is a watch by now"
        for request in api.requests:
            extra = request.resource in ("networkpolicies", "replicasets", "jobs")
            assert ("PartialObjectMetadata;" in request.headers["Accept"]) == extra


async def test_requests_at_steady_state(api: FakeApi, tmp_path: Path) -> None:
    """One each time that a watch ends, which the server does after 5 to 10 minutes."""
    quick = dataclasses.replace(QUICK, least=0.01, steady=0.5, watch=(1, 1))
    async with relaying(api, tmp_path / "sock", quick) as relay, following(relay) as source:
        assert await source.known(60)
        before = len(api.requests)
        began = time.monotonic()
        await until(lambda: len(api.requests) - before >= 8 * 3, 60)
        ended = len(api.requests) - before
        assert ended <= 8 * (time.monotonic() - began + 1)
        assert all(s.lists == 1 for s in relay.names.states), "never all of it again"
    shortest_s, _ = Timing().watch
    assert 8 * 60 / shortest_s < 2, "requests a minute"


async def test_status_and_metrics(api: FakeApi, relay: Relay) -> None:
    async with following(relay) as source:
        assert await source.known(60)
        api.put("pods", things.pod("new", "10.0.0.3"))
        await until(lambda: relay.names.status()["agents"][0]["version"] == 2)
        found = relay.names.status()
        assert found["ready"] and found["requests"] == 8
        assert {r["resource"]: r["objects"] for r in found["resources"]} == {
            "nodes": 1, "namespaces": 0, "services": 1, "endpointslices": 0, "pods": 3,
            "networkpolicies": 1, "replicasets": 0, "jobs": 0,
        }  # fmt: skip
        (agent,) = found["agents"]
        assert (agent["agent"], agent["lag_s"], agent["snapshots"]) == ("node-1", 0, 1)
        await until(lambda: relay.value("identity_changes") == 1)
        assert relay.value("identity_agents") == 1 and relay.value("identity_requests") == 8
        assert relay.value("identity_objects", resource="pods") == 3
    await until(lambda: not relay.names.status()["agents"])


async def test_lag_is_of_who_does_not_answer(api: FakeApi, relay: Relay) -> None:
    channel = relay.connect()
    call = channel.stream_stream("/flowobs.v1.Identity/Stream")()
    resume = pb.IdentityRequest(resume=pb.Resume(agent="mute"))
    await call.write(resume.SerializeToString())
    await call.read()
    api.put("pods", things.pod("new", "10.0.0.3"))
    await until(lambda: relay.names.journal.version == 2)
    await asyncio.sleep(0.3)
    assert relay.names.status()["agents"][0]["lag_s"] >= 0.3
    await call.write(pb.IdentityRequest(applied=2).SerializeToString())
    await until(lambda: relay.names.status()["agents"][0]["lag_s"] == 0)
    call.cancel()
    await channel.close()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\xff\xff", "not an IdentityRequest"),
        (pb.IdentityRequest(applied=3).SerializeToString(), "must be a Resume"),
        (
            pb.IdentityRequest(resume=pb.Resume(agent="a\n")).SerializeToString(),
            "printable agent name",
        ),
    ],
)
async def test_bad_requests_are_refused(relay: Relay, data: bytes, sentence: str) -> None:
    channel = relay.connect()
    call = channel.stream_stream("/flowobs.v1.Identity/Stream")()
    await call.write(data)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in (refused.value.details() or "")
    await channel.close()


async def test_too_many_agents(relay: Relay) -> None:
    relay.names.service._max_agents = 0
    async with following(relay) as source:
        assert not await source.known(60)
        assert "gives names to 0 agents already" in source.problem
