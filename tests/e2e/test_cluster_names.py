"""The relay watches a cluster, the agent follows it, and real packets carry the pods' names."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import V4, V6, Lab, Stack, stack
from tests.kubernetes import things
from tests.kubernetes.fake_api import FakeApi
from tests.kubernetes.fakes import in_a_thread, kubeconfig

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow]

PORT = 8080


def fill(api: FakeApi) -> None:
    api.put("nodes", things.node("lab-node", "192.0.2.1", zone="z1"))
    api.put("namespaces", {"metadata": {"name": "shop"}})
    for pod, workload in (("a", "web"), ("b", "api")):
        owner = "ReplicaSet", f"{workload}-v2"
        thing = things.pod(f"{workload}-0", V4[pod], V6[pod], node="lab-node", owner=owner)
        api.put("pods", thing)
        api.put("replicasets", things.owner(*owner, ("Deployment", workload)))
    backend = things.backend(V4["b"], api.things["pods"]["shop", "api-0"])
    api.put("services", things.service("api", "10.96.0.1"))
    api.put("endpointslices", things.endpoint_slice("api", backend))


def named(rows: list[dict[str, Any]], side: str) -> set[tuple[str, ...]]:
    wanted = ("namespace", "name", "workload_kind", "workload", "identity_source")
    return {tuple(row.get(f"{side}_{w}", "") for w in wanted) for row in rows}


def of(flowobs: Stack, port: int) -> list[dict[str, Any]]:
    return [r for r in flowobs.rows(port=port) if r["proto"] == "tcp"]


def test_names_come_by_the_relay(tmp_path: Path) -> None:
    with in_a_thread() as api, Lab() as lab:
        fill(api)
        options = ("--kubernetes", str(kubeconfig(tmp_path, api.url)))
        with stack(lab, relay_options=options) as flowobs:
            for family, port in ((V4, PORT), (V6, PORT + 1)):
                lab.server(family["b"], port)
                lab.client(family["b"], port, 5)
            flowobs.settle()
            for port in (PORT, PORT + 1):
                rows = of(flowobs, port)
                web = ("shop", "web-0", "Deployment", "web", "kubernetes")
                assert rows and named(rows, "src") == {web}
                backend = ("shop", "api-0", "Deployment", "api", "kubernetes")
                assert named(rows, "dst") == {backend}
                assert {r["src_cluster"] for r in rows} == {"demo"}
                assert {r["dst_service"] for r in rows} == {"api"}

            # a successor of the address gets its own name, and the agent outlives its relay
            status = flowobs.get("/api/v1/status")["identity"]
            assert [a["agent"] for a in status["agents"]] == ["lab-node"]
            assert status["requests"] == 8, "a watch of each resource, and nothing per flow"
            before = status["version"]
            api.remove("pods", "shop", "web-0")
            api.put("pods", things.pod("new-0", V4["a"], node="lab-node", started=time.time()))
            flowobs.wait(lambda: followed(flowobs, before), "agent")
            lab.client(V4["b"], PORT, 5)
            flowobs.settle()
            latest = [r for r in of(flowobs, PORT) if r["src_name"] != "web-0"]
            assert named(latest, "src") == {("shop", "new-0", "Pod", "new-0", "kubernetes")}
            assert flowobs.metric(flowobs.agent_url, "flowobs_agent_identity_changes") >= 2


def followed(flowobs: Stack, version: int) -> bool:
    (agent,) = flowobs.get("/api/v1/status")["identity"]["agents"]
    return bool(agent["version"] > version and agent["lag_s"] == 0)
