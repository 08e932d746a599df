"""The reflector against everything an API server is known to do."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator

import pytest

from flowobs.kubernetes.access import Access
from flowobs.kubernetes.resources import ENDPOINT_SLICES, PODS
from tests.kubernetes import things
from tests.kubernetes.fake_api import TOKEN, FakeApi
from tests.kubernetes.fakes import QUICK, access, running, until


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as server:
        server.put("pods", things.pod("a"))
        server.put("pods", things.pod("b"))
        yield server


def asked(api: FakeApi) -> list[str]:
    """The requests, in short."""
    kinds = []
    for request in api.requests:
        query = request.query
        kind = "stream" if query.initial else "watch" if query.watch else "list"
        kinds.append("more" if query.continue_ else kind)
    return kinds


async def test_one_request_learns_all_and_follows(api: FakeApi) -> None:
    async with running(api) as (reflector, seen):
        await until(lambda: seen.syncs)
        assert seen.names == ["a", "b"]
        api.put("pods", things.pod("c"))
        api.remove("pods", "shop", "a")
        await until(lambda: seen.names == ["b", "c"])
        assert asked(api) == ["stream"]
        assert reflector.freshness.synced and not reflector.freshness.stale
    headers = api.requests[0].headers
    assert headers["User-Agent"].startswith("flowobs/")
    assert headers["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize("streaming", ["forbidden", "etcd", "unknown"])
async def test_pages_where_there_is_no_streaming_list(api: FakeApi, streaming: str) -> None:
    api.faults.streaming = streaming  # type: ignore[assignment]
    for i in range(1100):
        api.put("pods", things.pod(f"p{i}"))
    async with running(api) as (_, seen):
        await until(lambda: seen.syncs)
        assert len(seen.names) == 1102
        api.put("pods", things.pod("c"))
        await until(lambda: "c" in seen.names)
        listed = [kind for kind in asked(api) if kind != "stream"]
        assert listed == ["list", "more", "more", "watch"]
        assert asked(api).count("stream") <= 1, "streaming was tried once"
        assert all(r.query.limit == 500 for r in api.requests if not r.query.watch)


async def test_a_watch_that_ends_goes_on_where_it_was(api: FakeApi) -> None:
    timing = dataclasses.replace(QUICK, watch=(1, 1))
    async with running(api, timing=timing) as (reflector, seen):
        await until(lambda: seen.syncs)
        api.version += 50
        api.bookmark()
        await until(lambda: len(api.requests) >= 3)
        assert asked(api)[:3] == ["stream", "watch", "watch"]
        assert api.requests[1].query.version == str(api.version), "the bookmark's"
        assert (reflector.lists, seen.puts) == (1, 2)


@pytest.mark.parametrize("streaming", ["works", "forbidden"])
@pytest.mark.parametrize("how", ["stream", "http"])
async def test_an_expired_version_means_a_new_list_as_a_difference(
    api: FakeApi, how: str, streaming: str
) -> None:
    api.faults.streaming = streaming  # type: ignore[assignment]
    async with running(api) as (reflector, seen):
        await until(lambda: seen.syncs and api.watches)
        uid = next(iter(seen.things))
        if how == "http":
            api.faults.refuse.append((410, ""))
        api.cut()
        before = time.time_ns()
        await until(lambda: not api.watches)
        api.remove("pods", "shop", "a")
        api.put("pods", things.pod("a"))
        api.put("pods", things.pod("c"))
        api.compact()
        await until(lambda: seen.syncs == 2)
        assert seen.names == ["a", "b", "c"]
        assert [name for name, _ in seen.removed] == ["a"], "the same name, but another pod"
        assert uid not in seen.things
        assert seen.puts == 4, "b is as it was"
        assert seen.removed[0][1] <= before, "its address may have been another's since"
        assert reflector.lists <= 4


async def test_expired_again_and_again_does_not_become_a_storm(api: FakeApi) -> None:
    timing = dataclasses.replace(QUICK, least=0.1, most=0.8)
    api.faults.streaming = "forbidden"
    api.faults.expire_watches = 1000
    async with running(api, timing=timing):
        await asyncio.sleep(2)
    assert len(api.requests) <= 16


async def test_watches_that_end_at_once_do_not_become_a_storm(api: FakeApi) -> None:
    timing = dataclasses.replace(QUICK, least=0.1, most=0.8)
    api.faults.end_at_once = True
    async with running(api, timing=timing) as (_, seen):
        await asyncio.sleep(2)
        assert seen.names == ["a", "b"]
    assert 3 <= len(api.requests) <= 12


@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after_is_honoured(api: FakeApi, code: int) -> None:
    api.faults.refuse.append((code, "1"))
    async with running(api) as (_, seen):
        await until(lambda: seen.syncs)
    first, second = api.requests[:2]
    assert second.at - first.at >= 1.0


async def test_failures_wait_longer_each_time(api: FakeApi) -> None:
    api.faults.refuse_all = 500
    timing = dataclasses.replace(QUICK, least=0.05, most=0.8)
    async with running(api, timing=timing) as (reflector, seen):
        await until(lambda: len(api.requests) >= 7)
        assert "500" in reflector.freshness.problem
        assert not seen.syncs and reflector.freshness.stale
        api.faults.refuse_all = 0
        await until(lambda: seen.syncs)
        assert reflector.freshness.problem == ""
    at = [request.at for request in api.requests]
    pauses = [b - a for a, b in itertools.pairwise(at)]
    assert sum(pauses[3:5]) > 1.3 * sum(pauses[1:3])


async def test_a_broken_connection_loses_nothing(api: FakeApi) -> None:
    async with running(api) as (reflector, seen):
        await until(lambda: seen.syncs)
        for i in range(8):
            api.faults.cut_after = i % 3
            api.put("pods", things.pod(f"p{i}"))
            api.remove("pods", "shop", f"p{i - 1}") if i else None
            await asyncio.sleep(0.02)
        api.faults.cut_after = None
        await until(lambda: seen.names == ["a", "b", "p7"])
        assert reflector.lists == 1


async def test_a_list_that_breaks_off_is_made_again(api: FakeApi) -> None:
    api.faults.cut_after = 1
    async with running(api) as (_, seen):
        await until(lambda: seen.syncs)
        assert seen.names == ["a", "b"] and seen.puts == 2


async def test_an_expired_continue_token_starts_the_list_over(api: FakeApi) -> None:
    api.faults.streaming = "forbidden"
    api.faults.expire_continue = 1
    for i in range(600):
        api.put("pods", things.pod(f"p{i}"))
    async with running(api) as (_, seen):
        await until(lambda: seen.syncs)
        assert len(seen.names) == 602 and seen.puts == 602
        await until(lambda: api.watches)
    assert [kind for kind in asked(api) if kind != "stream"] == [
        "list", "more", "list", "more", "watch",
    ]  # fmt: skip


async def test_a_line_of_two_megabytes(api: FakeApi) -> None:
    backends = [things.backend(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}") for i in range(28_000)]
    async with running(api, resource=ENDPOINT_SLICES) as (_, seen):
        await until(lambda: seen.syncs)
        api.put("endpointslices", things.endpoint_slice("web", *backends))
        await until(lambda: seen.things)
        (found,) = seen.things.values()
        assert len(found.endpoints or ()) == 28_000  # type: ignore[union-attr]


async def test_a_half_dead_connection_is_given_up(api: FakeApi) -> None:
    api.faults.silent = True
    timing = dataclasses.replace(QUICK, watch=(1, 1), stale=0.5)
    async with running(api, timing=timing) as (reflector, seen):
        await until(lambda: seen.syncs)
        api.put("pods", things.pod("c"))
        await until(lambda: reflector.freshness.stale)
        api.faults.silent = False
        await until(lambda: "c" in seen.names)
        await until(lambda: not reflector.freshness.stale)
        assert reflector.freshness.age < 0.5


async def test_an_object_of_another_shape_is_left_out(api: FakeApi) -> None:
    bad = things.pod("bad")
    bad["spec"]["nodeName"] = ["no", "name"]
    for streaming in ("works", "forbidden"):
        api.faults.streaming = streaming  # type: ignore[assignment]
        api.put("pods", dict(bad))
        async with running(api) as (reflector, seen):
            await until(lambda: seen.syncs)
            assert seen.names == ["a", "b"] and reflector.undecodable == 1
            api.put("pods", things.pod("bad"))
            await until(lambda: seen.names == ["a", "b", "bad"])
        api.remove("pods", "shop", "bad")


async def test_an_answer_that_is_not_the_apis_is_a_failure(api: FakeApi) -> None:
    api.faults.garbage = b"<html>login</html>"
    async with running(api) as (reflector, seen):
        await until(lambda: seen.syncs)
        await until(lambda: len(api.requests) >= 2)
        api.put("pods", things.pod("c"))
        await until(lambda: "c" in seen.names)
        assert reflector.freshness.problem == ""


async def test_only_one_nodes_pods(api: FakeApi) -> None:
    api.put("pods", things.pod("far", node="node-2"))
    async with running(api, selector="spec.nodeName=node-1") as (_, seen):
        await until(lambda: seen.syncs)
        assert seen.names == ["a", "b"]
        api.put("pods", things.pod("far", node="node-1"))
        await until(lambda: "far" in seen.names)


async def test_a_token_that_is_replaced_is_read_again(api: FakeApi, tmp_path: object) -> None:
    from pathlib import Path

    file = Path(str(tmp_path)) / "token"
    file.write_text(TOKEN + "\n")
    given = Access(server=api.url, token_file=file).checked()
    async with running(api, given=given) as (reflector, seen):
        await until(lambda: seen.syncs)
        api.tokens = {"next"}
        api.cut()
        await until(lambda: "does not take our credentials" in reflector.freshness.problem)
        file.write_text("next")
        await until(lambda: reflector.freshness.connected)
        await until(lambda: not reflector.freshness.stale)
        file.unlink()  # for a moment, while it is replaced
        api.cut()
        await until(lambda: not reflector.freshness.connected)
        await until(lambda: reflector.freshness.connected)


async def test_what_rbac_forbids_is_said_with_the_next_step(api: FakeApi) -> None:
    api.faults.refuse_all = 403
    async with running(api) as (reflector, _):
        await until(lambda: reflector.freshness.problem)
        assert "not allowed to list and watch pods: apply deploy/rbac.yaml" in (
            reflector.freshness.problem
        )


async def test_stale_while_the_server_is_away() -> None:
    async with FakeApi() as api:
        api.put("pods", things.pod("a"))
        async with running(api, given=access(api)) as (reflector, seen):
            await until(lambda: seen.syncs)
            await api._runner.cleanup()
            await until(lambda: reflector.freshness.stale)
            assert seen.names == ["a"], "what is known stays in use"


async def test_resources_have_the_paths_of_the_api(api: FakeApi) -> None:
    assert PODS.path == "/api/v1/pods"
    assert ENDPOINT_SLICES.path == "/apis/discovery.k8s.io/v1/endpointslices"
