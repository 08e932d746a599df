"""The source: a thread of its own, names by address and by cgroup, together with the others."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from flowobs.agent.cluster import Cluster
from flowobs.agent.metrics import Metrics
from flowobs.batch import Endpoint
from flowobs.identity import cgroup, numbers
from flowobs.identity.cgroup_paths import CgroupPaths
from flowobs.identity.places import Places
from flowobs.identity.resolver import Resolver
from flowobs.identity.source import Socket
from flowobs.kubernetes.backoff import Timing
from flowobs.kubernetes.resources import RESOURCES
from flowobs.kubernetes.source import KubernetesSource
from flowobs.schema import EndpointKind
from tests.identity.fakes import FakeSource, ip
from tests.kubernetes import things
from tests.kubernetes.fake_api import FakeApi
from tests.kubernetes.fakes import QUICK, access, in_a_thread, kubeconfig

UID = "0a1b2c3d-0001-0002-0003-00000000000a"
POD_SLICE = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with in_a_thread() as server:
        server.put("nodes", things.node("node-1", "192.0.2.1"))
        server.put("pods", things.pod("web", "10.0.0.1"))
        server.put("pods", things.pod("elsewhere", "10.0.0.2", node="node-2"))
        host = {"app": things.CONTAINER}
        proxy = things.pod("proxy", "192.0.2.1", host_network=True, uid=UID, containers=host)
        server.put("pods", proxy)
        server.put("services", things.service("web", "10.96.0.1"))
        yield server


def test_the_agents_cluster(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "cgroup" / POD_SLICE / f"cri-containerd-{things.CONTAINER}.scope").mkdir(
        parents=True
    )
    inode = next((tmp_path / "cgroup").rglob("*.scope")).stat().st_ino
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    places = Places(CgroupPaths(tmp_path / "cgroup"))
    cluster = Cluster(kubeconfig(tmp_path, api.url), "node-1", places, metrics)
    try:
        cluster.start()
        resolver = Resolver([cluster.source, FakeSource.of({"10.0.0.0/8": Endpoint(name="old")})])
        resolver.poll()
        now = time.time_ns()
        assert resolver.by_address(ip("10.0.0.1"), now).endpoint == Endpoint(
            EndpointKind.pod, "demo", "shop", "web", "web", "Pod", "", "node-1", "", "kubernetes",
            labels="app=web", identity=numbers.of_labels("demo", "shop", {"app": "web"}),
        )  # fmt: skip
        assert resolver.by_address(ip("10.0.0.2"), now).endpoint == Endpoint(name="old")
        node = resolver.by_address(ip("192.0.2.1"), now).endpoint
        assert node is not None and node.kind == EndpointKind.node
        told = resolver.by_socket(node, Socket(inode, 0, "nginx"))
        assert (told.kind, told.name, told.container) == (EndpointKind.pod, "proxy", "app")
        assert resolver.by_socket(node, Socket(0, 0, "sshd")) == node
        cluster.measure()
        value = registry.get_sample_value
        assert value("flowobs_agent_identity_objects", {"resource": "pods"}) == 2
        assert value("flowobs_agent_identity_stale", {"resource": "pods"}) == 0
        assert (value("flowobs_agent_identity_age_seconds", {"resource": "nodes"}) or 0) < 60
        assert value("flowobs_agent_identity_requests") == 5, "one for each resource"
    finally:
        cluster.stop()
    assert cluster.source.crash is None


def test_requests_at_steady_state(api: FakeApi) -> None:
    """One each time that a watch ends, and of pods only those of its own node."""
    quick = dataclasses.replace(QUICK, least=0.01, steady=0.5, watch=(1, 1))
    source = KubernetesSource(access(api), node="node-1", timing=quick)
    try:
        assert source.start(60)
        before = len(api.requests)
        began = time.monotonic()
        while (ended := len(api.requests) - before) < 5 * 2:
            assert time.monotonic() - began < 60
            time.sleep(0.05)
        assert ended <= 5 * (time.monotonic() - began + 1)
        assert all(s.lists == 1 for s in source.states), "never all of it again"
        selectors = {r.query.selector for r in api.requests if r.resource == "pods"}
        assert selectors == {(("spec.nodeName", "node-1"),)}
        assert {r.resource for r in api.requests} == {r.name for r in RESOURCES}
    finally:
        source.stop()
    shortest_s, longest_s = Timing().watch
    assert 5 * 60 / shortest_s <= 1, "a request a minute"
    assert longest_s > 1.5 * shortest_s, "and not those of all agents at the same time"


def test_a_node_of_another_name_is_said(
    api: FakeApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(CollectorRegistry())
    places = Places(CgroupPaths(tmp_path))
    cluster = Cluster(kubeconfig(tmp_path, api.url), "laptop", places, metrics)
    cluster.start()
    cluster.stop()
    assert "give the node's name with --node: node=laptop" in caplog.text


def test_without_a_server_the_agent_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(CollectorRegistry())
    places = Places(CgroupPaths(tmp_path))
    cluster = Cluster(kubeconfig(tmp_path, "http://127.0.0.1:9"), "n", places, metrics)
    cluster.start(0.3)
    cluster.measure()
    for reflector in cluster.source.watch._reflectors:
        reflector.freshness.heard_ns -= 95 * 10**9
    assert cluster.source.age_s == 95
    cluster.stop()
    assert "names from the cluster are not known yet" in caplog.text
    stale = metrics.registry.get_sample_value("flowobs_agent_identity_stale", {"resource": "pods"})
    assert stale == 1


CID, OUTER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/kubepods.slice/{POD_SLICE}/cri-containerd-{CID}.scope", (UID, CID)),
        (f"/kubepods/burstable/pod{UID}/{CID}", (UID, CID)),
        (f"/kubepods/pod{UID}/{CID}/kube-proxy", (UID, CID)),
        (f"/kubepods/pod{UID}/crio-{CID}", (UID, CID)),
        (f"/kubepods/pod{UID}", (UID, "")),
        (f"/kubepods.slice/{POD_SLICE}/crio-conmon-{CID}.scope", (UID, "")),
        (f"/kubepods.slice/kubepods-burstable-pod{'c' * 32}.slice/x-{CID}.scope", ("c" * 32, CID)),
        (f"/system.slice/containerd.service/{POD_SLICE}:cri-containerd:{CID}", (UID, CID)),
        (
            f"/docker/{OUTER}/kubelet.slice/kubelet-{POD_SLICE}/cri-containerd-{CID}.scope",
            (UID, CID),
        ),
        (f"/docker/{CID}", None),
        ("/system.slice/podman.service", None),
    ],
)
def test_pods_in_cgroup_paths(path: str, expected: tuple[str, str] | None) -> None:
    assert cgroup.parse_pod(path) == expected
