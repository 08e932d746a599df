"""The fake API server is as strict as a real one."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.kubernetes import things
from tests.kubernetes.fake_api import TOKEN, FakeApi

INITIAL = {
    "watch": "1",
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "allowWatchBookmarks": "true",
    "timeoutSeconds": "1",
}


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as server:
        yield server


async def ask(
    api: FakeApi, path: str = "/api/v1/pods", token: str = TOKEN, **parameters: str
) -> tuple[int, Any]:
    """Status and JSON: of a list the answer, of a watch its lines."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            api.url + path, params=parameters, headers={"Authorization": f"Bearer {token}"}
        ) as response,
    ):
        body = await response.read()
        if "watch" in parameters and response.status == 200:
            return 200, [json.loads(line) for line in body.splitlines()]
        return response.status, json.loads(body)


@pytest.mark.parametrize(
    "parameters",
    [
        {"resourceversion": "1"},
        {"watch": "maybe"},
        {"limit": "many"},
        {"fieldSelector": "spec.nodename=a"},
        {"fieldSelector": "spec.nodeName"},
        {"resourceVersion": "latest"},
        {"timeoutSeconds": "5"},
        {"watch": "1", "limit": "5"},
    ],
)
async def test_bad_requests_are_refused(api: FakeApi, parameters: dict[str, str]) -> None:
    assert (await ask(api, **parameters))[0] == 400


async def test_streaming_lists_need_their_parameters(api: FakeApi) -> None:
    for missing in ("resourceVersionMatch", "allowWatchBookmarks"):
        rest = {k: v for k, v in INITIAL.items() if k != missing}
        assert (await ask(api, **rest))[0] == 422
    assert (await ask(api, watch="1", resourceVersionMatch="NotOlderThan"))[0] == 422


async def test_who_has_no_token_gets_nothing(api: FakeApi) -> None:
    assert (await ask(api, token="other"))[0] == 401
    assert (await ask(api, path="/api/v1/secrets"))[0] == 404


async def test_a_list_in_pages_is_of_one_version(api: FakeApi) -> None:
    for i in range(5):
        api.put("pods", things.pod(f"p{i}"))
    _, first = await ask(api, limit="2")
    api.remove("pods", "shop", "p3")
    api.put("pods", things.pod("p9"))
    _, second = await ask(api, limit="4", **{"continue": first["metadata"]["continue"]})
    names = [item["metadata"]["name"] for item in (*first["items"], *second["items"])]
    assert names == ["p0", "p1", "p2", "p3", "p4"]
    assert first["metadata"]["remainingItemCount"] == 3
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

    api.compact()
    assert (await ask(api, **{"continue": first["metadata"]["continue"]}))[0] == 410


async def test_a_streaming_list_says_where_it_ends(api: FakeApi) -> None:
    api.put("pods", things.pod("a"))
    _, (added, mark) = await ask(api, **INITIAL)
    assert added["type"] == "ADDED"
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert mark["object"]["metadata"]["resourceVersion"] == str(api.version)


async def test_an_old_version_is_told_within_the_watch(api: FakeApi) -> None:
    version = str(api.version)
    api.compact()
    code, (error,) = await ask(api, watch="1", resourceVersion=version)
    assert (code, error["type"], error["object"]["code"]) == (200, "ERROR", 410)


async def test_a_watch_sees_what_its_selector_lets_through(api: FakeApi) -> None:
    version = str(api.version)
    api.put("pods", things.pod("a", node="one"))
    api.put("pods", things.pod("b", node="two"))
    api.put("pods", things.pod("a", node="one", phase="Failed"))
    api.put("pods", things.pod("a", node="two"))
    code, events = await ask(
        api, watch="1", resourceVersion=version, timeoutSeconds="1",
        fieldSelector="spec.nodeName=one",
    )  # fmt: skip
    assert code == 200
    assert [e["type"] for e in events] == ["ADDED", "MODIFIED", "DELETED"]


async def test_browsers_get_long_json_and_lists_are_compressed(api: FakeApi) -> None:
    for i in range(600):
        api.put("pods", things.pod(f"p{i}"))
    sizes = {}
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for agent in ("curl/8", "flowobs/1"):
            headers = {"User-Agent": agent, "Authorization": f"Bearer {TOKEN}"}
            async with session.get(api.url + "/api/v1/pods", headers=headers) as response:
                body = await response.read()
                assert response.headers["Content-Encoding"] == "gzip"
                sizes[agent] = len(gzip.decompress(body))
    assert sizes["curl/8"] > 1.5 * sizes["flowobs/1"]
