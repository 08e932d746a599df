"""Names from an API server on real packets: first ones, late ones, and those out of date."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import MAC, V4, Lab, Stack, stack
from tests.kubernetes import things
from tests.kubernetes.fake_api import FakeApi
from tests.kubernetes.test_source import kubeconfig

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]

NEW = "10.99.0.11"


class Api:
    """A fake API server in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.server = FakeApi()
        self._thread = threading.Thread(target=self.loop.run_forever)

    def call(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(60)

    async def put(self, resource: str, thing: dict[str, Any]) -> None:
        self.server.put(resource, thing)

    @contextmanager
    def running(self) -> Iterator[Api]:
        self._thread.start()
        self.call(self.server.__aenter__())
        try:
            yield self
        finally:
            self.stop()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()

    def stop(self) -> None:
        if self.server is not None:
            self.call(self.server.__aexit__())
            self.server = None  # type: ignore[assignment]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Lab, Stack, Api]]:
    with tempfile.TemporaryDirectory() as folder, Lab() as lab, Api().running() as api:
        for address in (NEW,):
            lab.ip("a", f"addr add {address}/24 dev eth0")
            lab.ip("b", f"neigh replace {address} lladdr {MAC['a']} dev eth0 nud permanent")
        peer = things.pod("peer", V4["b"], node="lab-node", labels={"app": "peer", "tier": "back"})
        api.call(api.put("nodes", things.node("lab-node", "192.0.2.1", zone="z1")))
        api.call(api.put("pods", peer))
        behind = things.backend(V4["b"], api.server.things["pods"]["shop", "peer"])
        for name in ("peer", "all"):
            api.call(api.put("endpointslices", things.endpoint_slice(name, behind)))
        config = kubeconfig(Path(folder), api.server.url)
        options = (
            "--identity",
            "kubernetes",
            "--kubeconfig",
            str(config),
            "--cluster-name",
            "east",
        )
        with stack(lab, agent_options=options) as flowobs:
            yield lab, flowobs, api


def ping(lab: Lab, source: str, seconds: float) -> None:
    count = max(1, round(seconds / 0.2))
    lab.exec("a", "ping", "-c", str(count), "-i", "0.2", "-I", source, V4["b"])


def flows(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "flowobs.cli.flows", *arguments]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, capture_output=True, check=True).stdout
    )
    return found


def test_a_new_pods_first_packets_have_its_name(running: tuple[Lab, Stack, Api]) -> None:
    _, flowobs, api = running
    labels = {"app": "new"}
    new = things.pod("new", NEW, node="lab-node", started=time.time() - 5, labels=labels)
    with flowobs.held_back(NEW, V4["b"]):
        api.call(api.put("pods", new))
    flowobs.settle()
    rows = [r for r in flowobs.rows(q=f"ip:{NEW}") if r["kind"] != "lost"]
    near = [r for r in rows if r["reporter"] == "source"]
    assert near and {r.get("src_name") for r in near} == {"new"}
    assert near[0]["kind"] == "open"
    held = flowobs.metric(flowobs.agent_url, "flowobs_agent_identity_held")
    assert held >= 1
    assert flowobs.metric(flowobs.agent_url, "flowobs_agent_identity_held_named") == held


def test_what_is_on_a_record_can_be_asked_for(running: tuple[Lab, Stack, Api]) -> None:
    lab, flowobs, _ = running
    ping(lab, NEW, 0.4)
    flowobs.settle()
    rows = flowobs.rows(q="to.label:tier=back%20service:all%20zone:z1")
    row = next(r for r in rows if r.get("src_name") == "new" and r["reporter"] == "source")
    assert (row["dst_labels"], row["dst_services"]) == ("app=peer,tier=back", "all,peer")
    assert (row["src_cluster"], row["src_zone"], row["src_labels"]) == ("east", "z1", "app=new")
    assert row["src_identity"] >= 256 != row["dst_identity"]
    assert "src_identity_age" not in row
    same = flowobs.rows(q=f"dst.identity:{row['dst_identity']}%20src.label:app=n*")
    assert row in same
    assert flowobs.rows(q="label:tier=bac") == []


def test_who_it_is_is_explained(running: tuple[Lab, Stack, Api]) -> None:
    _, flowobs, _ = running
    told = flows("whois", "shop/new", "--agent", flowobs.agent_url)
    (claim,) = told["claims"]
    assert (claim["address"], claim["source"], claim["accepted"]) == (NEW, "kubernetes", True)
    both = flows("whois", V4["b"], "--agent", flowobs.agent_url)["claims"]
    assert [(c["name"], c["accepted"]) for c in both] == [("peer", True), ("b-0", False)]
    assert both[1]["reason"] == "kubernetes knows it and is asked first"
    seen = flows("whois", NEW, "--server", flowobs.url)["seen"]
    assert seen[0]["name"] == "new" and seen[0]["told_by"] == ["lab-node"]


def test_names_out_of_date_say_so(running: tuple[Lab, Stack, Api]) -> None:
    lab, flowobs, api = running
    api.stop()

    def told() -> dict[str, Any]:
        ping(lab, NEW, 0.2)
        return flowobs.rows(q=f"from:{NEW}%20reporter:source", last=1)[0]

    stale = 'flowobs_agent_identity_stale{resource="pods"}'
    flowobs.wait(lambda: flowobs.metric(flowobs.agent_url, stale) == 1, "agent")
    flowobs.wait(lambda: told().get("src_identity_age", 0) >= 10, "agent")
    assert told()["src_name"] == "new", "what was known stays in use"
    (agent,) = flows("status", "--server", flowobs.url)["agents"]
    assert agent["names_age_s"] >= 10
