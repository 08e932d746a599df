"""The table: which objects name which addresses and containers, and which do not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flowobs.batch import Endpoint
from flowobs.identity import numbers
from flowobs.identity.source import END
from flowobs.kubernetes import objects, resources
from flowobs.kubernetes.table import Table
from flowobs.schema import EndpointKind
from tests.identity.fakes import ip
from tests.kubernetes import things
from tests.kubernetes.things import Thing

S = 1_000_000_000
START = 1_700_000_000
TYPES = {r.name: r.object for r in resources.RESOURCES}


def decoded(resource: str, thing: Thing) -> objects.Object:
    meta = thing["metadata"]
    meta.setdefault("uid", f"{resource}/{meta.get('namespace', '')}/{meta['name']}")
    return TYPES[resource].decode(msgspec.json.encode(thing))


class Clock:
    """Seconds of a table under test; `put` and `remove` are what a reflector would do."""

    def __init__(self, cluster: str = "demo", node: str = "") -> None:
        self.seconds = START + 100.0
        self.table = Table(cluster, node, clock=lambda: round(self.seconds * S))
        self.table.settled()

    def put(self, resource: str, thing: Thing, after: float = 1.0) -> Thing:
        self.seconds += after
        self.table.put(decoded(resource, thing), None)
        return thing

    def remove(self, thing: Thing, after: float = 1.0) -> None:
        self.seconds += after
        self.table.remove(thing["metadata"]["uid"], round(self.seconds * S))

    def who(self, address: str, seconds: float | None = None) -> Endpoint | None:
        when = self.seconds if seconds is None else seconds
        return self.table.by_address(ip(address), round(when * S)).endpoint

    def name(self, address: str, seconds: float | None = None) -> str:
        found = self.who(address, seconds)
        return found.name if found else ""


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_pod_with_everything(clock: Clock) -> None:
    pod = things.pod(
        "web-7887448d46-x2b4c", "10.0.0.1", "fd00::1",
        owner=("ReplicaSet", "web-7887448d46"),
        labels={"app": "web", "pod-template-hash": "7887448d46"},
        containers={"nginx": things.CONTAINER},
    )  # fmt: skip
    clock.put("pods", pod)
    clock.put("endpointslices", things.endpoint_slice("web", things.backend("10.0.0.1", pod)))
    for address in ("10.0.0.1", "fd00::1"):
        assert clock.who(address) == Endpoint(
            EndpointKind.pod, "demo", "shop", "web-7887448d46-x2b4c", "web", "Deployment",
            "web", "node-1", "nginx", "kubernetes", "", "app=web", "web",
            numbers.of_labels("demo", "shop", {"app": "web"}),
        )  # fmt: skip
    assert clock.name("10.0.0.1", START - 1) == "", "it was not there yet"
    assert clock.name("10.0.0.1", START) == "web-7887448d46-x2b4c", "but had it before we knew"


def test_the_first_service_by_name_of_several_and_from_when_on(clock: Clock) -> None:
    pod = clock.put("pods", things.pod("a", "10.0.0.1"))
    backend = things.backend("10.0.0.1", pod)
    later = clock.put("endpointslices", things.endpoint_slice("web", backend))
    since = clock.seconds
    second = clock.put("endpointslices", things.endpoint_slice("api", backend))
    assert clock.who("10.0.0.1").service == "api"  # type: ignore[union-attr]
    assert clock.who("10.0.0.1", since).service == "web"  # type: ignore[union-attr]
    assert clock.who("10.0.0.1", since - 0.5).service == ""  # type: ignore[union-attr]
    assert clock.who("10.0.0.1").services == "api,web"  # type: ignore[union-attr]
    clock.remove(second)
    clock.put("endpointslices", later | {"endpoints": []})
    assert clock.who("10.0.0.1").service == ""  # type: ignore[union-attr]


def test_names_known_in_the_first_list_hold_from_the_beginning() -> None:
    clock = Clock()
    clock.table = Table(clock=lambda: round(clock.seconds * S))
    pod = clock.put("pods", things.pod("a", "10.0.0.1"))
    clock.put("endpointslices", things.endpoint_slice("web", things.backend("10.0.0.1", pod)))
    assert clock.who("10.0.0.1", START + 5).service == "web"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "how",
    [
        {"host_network": True, "host_ips": ("192.0.2.9",)},
        {"host_ips": ("10.0.0.1", "fd00::1")},
        {"host_ips": ("10.0.0.1", "fd00::1"), "host_network": True},
    ],
)
def test_pods_on_their_nodes_network_have_no_address(clock: Clock, how: dict[str, Any]) -> None:
    clock.put("pods", things.pod("a", "10.0.0.1", "fd00::1", **how))
    assert clock.name("10.0.0.1") == clock.name("fd00::1") == ""


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pods_that_have_ended_own_no_address(clock: Clock, phase: str) -> None:
    clock.put("pods", things.pod("job", "10.0.0.1"))
    alive = clock.seconds
    clock.put("pods", things.pod("job", "10.0.0.1", phase=phase), after=5)
    assert clock.name("10.0.0.1") == ""
    assert clock.name("10.0.0.1", alive) == "job"
    started = clock.seconds + 1
    clock.put("pods", things.pod("next", "10.0.0.1", started=started), after=2)
    clock.put("pods", things.pod("job", "10.0.0.1", phase=phase))
    assert clock.name("10.0.0.1") == "next"
    assert clock.name("10.0.0.1", alive) == "job"


def test_a_pod_that_had_ended_when_it_was_first_seen_had_its_address(clock: Clock) -> None:
    job = things.pod("job", "10.0.0.1", phase="Succeeded", started=START + 90)
    job["status"]["containerStatuses"] = [
        {"name": "main", "state": {"terminated": {"finishedAt": things.stamp(START + 95)}}}
    ]
    clock.put("pods", job)
    assert clock.name("10.0.0.1", START + 93) == "job"
    assert clock.name("10.0.0.1", START + 96) == clock.name("10.0.0.1", START + 89) == ""


def test_an_address_is_its_successors_only_when_it_is_sure(clock: Clock) -> None:
    first = clock.put("pods", things.pod("a", "10.0.0.1"))
    clock.put("pods", things.pod("b", "10.0.0.1", started=START + 101.5), after=2)
    assert clock.name("10.0.0.1", START + 100.9) == "a"
    assert clock.name("10.0.0.1") == "", "both say they have it"
    assert clock.table.conflicts == 1
    clock.remove(first, after=2)
    gone = clock.seconds
    assert clock.name("10.0.0.1", gone) == "b"
    assert clock.name("10.0.0.1", gone - 0.1) == "", "whose it was then nobody can say"
    assert clock.name("10.0.0.1", START + 100.9) == "a"


def test_services_with_addresses_of_all_kinds(clock: Clock) -> None:
    clock.put(
        "services",
        things.service(
            "web", "10.96.0.1", "fd96::1", external=["198.51.100.1"], ingress=["203.0.113.1", ""]
        ),
    )
    headless = clock.put("services", things.service("db"))
    for address in ("10.96.0.1", "fd96::1", "198.51.100.1", "203.0.113.1"):
        assert clock.who(address) == Endpoint(
            EndpointKind.service, "demo", "shop", "web",
            service="web", services="web", identity_source="kubernetes",
        )  # fmt: skip
    clock.remove(headless)
    clock.put("services", things.service("web", "10.96.0.1"))
    assert clock.name("198.51.100.1") == "" and clock.name("10.96.0.1") == "web"


def test_nodes_with_all_addresses_and_zone(clock: Clock) -> None:
    node = clock.put("nodes", things.node("node-1", "192.0.2.1", "2001:db8::1", "name", zone="z1"))
    found = clock.who("2001:db8::1")
    assert found == clock.who("192.0.2.1")
    assert found is not None and (found.kind, found.name, found.node) == (
        EndpointKind.node, "node-1", "node-1",
    )  # fmt: skip
    assert (found.zone, found.identity) == ("z1", 6)
    assert clock.table.zones == {"node-1": "z1"}
    assert clock.table.has_node("node-1") and not clock.table.has_node("other")
    clock.remove(node)
    assert clock.name("192.0.2.1") == "" and clock.table.zones == {}


def test_the_zone_of_a_pods_node_is_the_pods_whichever_is_known_first(clock: Clock) -> None:
    clock.put("pods", things.pod("a", "10.0.0.1"))
    assert clock.who("10.0.0.1").zone == ""  # type: ignore[union-attr]
    before = clock.table.generation
    clock.put("nodes", things.node("node-1", "192.0.2.1", zone="z1"))
    assert clock.table.generation > before
    assert clock.who("10.0.0.1").zone == "z1"  # type: ignore[union-attr]
    clock.put("nodes", things.node("node-1", "192.0.2.1", zone="z2"))
    assert clock.who("10.0.0.1").zone == "z2"  # type: ignore[union-attr]


def test_a_node_that_runs_the_api_server_has_its_number(clock: Clock) -> None:
    clock.put("nodes", things.node("cp-1", "192.0.2.1"))
    backend = things.backend("192.0.2.1")
    api = clock.put(
        "endpointslices", things.endpoint_slice("kubernetes", backend, namespace="default")
    )
    found = clock.who("192.0.2.1")
    assert found is not None and (found.name, found.identity) == ("cp-1", 7)
    clock.remove(api)
    assert clock.who("192.0.2.1").identity == 6  # type: ignore[union-attr]


def test_labels_are_bounded_and_without_those_of_one_replica(clock: Clock) -> None:
    many = {f"label-{i:03}": "v" * 60 for i in range(100)} | {"pod-template-hash": "1"}
    clock.put("pods", things.pod("a", "10.0.0.1", labels=many))
    found = clock.who("10.0.0.1")
    assert found is not None
    pairs = found.labels.split(",")
    assert len(found.labels) <= numbers.MAX_CHARACTERS and len(pairs) > 25
    assert pairs == sorted(f"{k}={v}" for k, v in many.items() if k[0] == "l")[: len(pairs)]
    clock.put("pods", things.pod("b", "10.0.0.2", labels=many | {"pod-template-hash": "2"}))
    assert clock.who("10.0.0.2").identity == found.identity  # type: ignore[union-attr]


def test_a_pod_comes_before_a_node_and_a_node_before_a_service(clock: Clock) -> None:
    clock.put("services", things.service("lb", "10.96.0.1", ingress=["192.0.2.1"]))
    clock.put("nodes", things.node("node-1", "192.0.2.1"))
    assert clock.name("192.0.2.1") == "node-1"


def test_backends_outside_the_cluster(clock: Clock) -> None:
    clock.put("endpointslices", things.endpoint_slice("db", things.backend("198.51.100.9")))
    api = things.endpoint_slice("kubernetes", things.backend("203.0.113.5"), namespace="default")
    clock.put("endpointslices", api)
    found = clock.who("198.51.100.9")
    assert found is not None
    assert (found.kind, found.name, found.service) == (EndpointKind.external, "db", "db")
    assert (found.identity, found.services) == (2, "db")
    named = clock.who("203.0.113.5")
    assert named is not None and (named.name, named.identity) == ("kube-apiserver", 7)
    clock.put("endpointslices", api | {"endpoints": None})
    assert clock.name("203.0.113.5") == ""


def test_pods_of_other_nodes_are_known_by_their_services() -> None:
    clock = Clock(node="node-1")
    near = clock.put("pods", things.pod("near", "10.0.0.1"))
    far = things.pod("far", "10.0.1.1", node="node-2", uid="uid-far")
    backends = things.backend("10.0.0.1", near), things.backend("10.0.1.1", far)
    given = clock.put("endpointslices", things.endpoint_slice("web", *backends))
    assert clock.who("10.0.1.1") == Endpoint(
        EndpointKind.pod, "demo", "shop", "far", service="web", node="node-2",
        identity_source="kubernetes", services="web",
    )  # fmt: skip
    clock.remove(near)
    assert clock.name("10.0.0.1") == "", "slices are late: of our own pods we know better"
    clock.remove(given)
    assert clock.name("10.0.1.1") == ""


def test_containers_and_cgroups_of_pods(clock: Clock) -> None:
    two = {"app": things.CONTAINER, "proxy": "f" * 64}
    pod = things.pod("a", "192.0.2.1", host_network=True, uid="uid-a", containers=two)
    clock.put("pods", pod)
    static = things.pod("etcd", uid="s", annotations={"kubernetes.io/config.hash": "c" * 32})
    clock.put("pods", static)
    by = clock.table.by_container
    assert by(things.CONTAINER, "").container == "app"  # type: ignore[union-attr]
    assert by("f" * 64, "uid-a").container == "proxy"  # type: ignore[union-attr]
    assert by("0" * 64, "uid-a").name == "a"  # type: ignore[union-attr]
    assert by("0" * 64, "uid-a").container == ""  # type: ignore[union-attr]
    assert by("", "c" * 32).name == "etcd"  # type: ignore[union-attr]
    assert by("0" * 64, "other") is None
    clock.remove(pod)
    clock.remove(static)
    assert by("f" * 64, "uid-a") is None and by("", "c" * 32) is None


def test_generations_are_raised_by_changes_of_names_alone(clock: Clock) -> None:
    pod = clock.put("pods", things.pod("a", "10.0.0.1"))
    node = clock.put("nodes", things.node("node-1", "192.0.2.1"))
    before = clock.table.generation
    pod["status"]["conditions"] = [{"type": "Ready"}]
    clock.put("pods", pod)
    clock.put("nodes", node)
    assert clock.table.generation == before
    clock.remove(pod)
    assert clock.table.generation > before


def test_tombstones_go_in_the_end(clock: Clock) -> None:
    pod = clock.put("pods", things.pod("a", "10.0.0.1"))
    alive = clock.seconds
    clock.remove(pod)
    clock.seconds += 599
    clock.table.expire()
    assert clock.name("10.0.0.1", alive) == "a"
    clock.seconds += 2
    clock.table.expire()
    assert clock.table.by_address(ip("10.0.0.1"), 0) == (None, -(1 << 63), END)
