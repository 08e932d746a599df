"""Both ends of records by the names that the relay's watch gives, and what is not known in time.

Besides the lab's pods there is a second node, ``far``, behind an uplink: its pod, an API server, a
service address and a machine of the world answer there.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.e2e.lab import MAC, V4, Lab, Stack, run, stack
from tests.e2e.test_owners import Cgroup, told
from tests.kubernetes import things
from tests.kubernetes.fake_api import FakeApi
from tests.kubernetes.fakes import in_a_thread, kubeconfig

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.slow, pytest.mark.timeout(240)]

NODE, FAR, API = "192.0.2.1", "192.0.2.2", "192.0.2.3"
GATEWAY = "10.99.0.254"
REMOTE, SERVICE, WORLD = "10.97.1.2", "10.96.0.9", "8.8.8.8"
NEW = "10.99.0.11"
UID = "11111111-2222-3333-4444-555555555555"


class Place(NamedTuple):
    lab: Lab
    flowobs: Stack
    api: FakeApi


@contextlib.contextmanager
def two_nodes() -> Iterator[Lab]:
    """The lab with a way from its pods to a second node."""
    with Lab() as lab, contextlib.ExitStack() as undo:
        run("ip", "netns", "add", lab.ns("far"))
        undo.callback(run, "ip", "netns", "del", lab.ns("far"), check=False)
        lab.ip("far", "link set lo up")
        lab.ip("node", f"link add up0 type veth peer name eth0 netns {lab.ns('far')}")
        for name, link, address in (("node", "up0", NODE), ("far", "eth0", FAR)):
            lab.ip(name, f"addr add {address}/24 dev {link}")
            lab.ip(name, f"link set {link} up")
        lab.ip("node", f"addr add {GATEWAY}/24 dev br0")
        lab.exec("node", "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        for address in (API, REMOTE, SERVICE, WORLD):
            lab.ip("far", f"addr add {address}/32 dev lo")
            if address != API:
                lab.ip("node", f"route add {address}/32 via {FAR}")
        lab.ip("far", f"route add 10.99.0.0/24 via {NODE}")
        lab.ip("a", f"route add default via {GATEWAY}")
        lab.ip("a", f"addr add {NEW}/24 dev eth0")
        lab.ip("b", f"neigh replace {NEW} lladdr {MAC['a']} dev eth0 nud permanent")
        yield lab


def fill(api: FakeApi) -> None:
    api.put("nodes", things.node("lab-node", NODE, zone="z1"))
    api.put("nodes", things.node("far-node", FAR, zone="z2"))
    web = things.pod(
        "web-0", V4["a"], node="lab-node", owner=("ReplicaSet", "web-v2"),
        labels={"app": "web", "tier": "front"}, containers={"nginx": things.CONTAINER},
    )  # fmt: skip
    api.put("pods", web)
    api.put("replicasets", things.owner("ReplicaSet", "web-v2", ("Deployment", "web")))
    remote = things.pod(
        "db-0", REMOTE, namespace="data", node="far-node", owner=("StatefulSet", "db"),
        labels={"app": "db", "tier": "back"}, host_ips=(FAR,),
    )  # fmt: skip
    remote = api.put("pods", remote)
    for name in ("db", "all"):
        behind = things.backend(REMOTE, remote)
        api.put("endpointslices", things.endpoint_slice(name, behind, namespace="data"))
    api.put("services", things.service("cache", SERVICE))
    kubernetes = things.endpoint_slice("kubernetes", things.backend(API), namespace="default")
    api.put("endpointslices", kubernetes)
    proxy = things.pod(
        "kube-proxy", NODE, namespace="kube-system", node="lab-node", uid=UID, host_network=True,
        containers={"proxy": "f" * 64}, owner=("DaemonSet", "kube-proxy"),
    )  # fmt: skip
    api.put("pods", proxy)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    config = tmp_path_factory.mktemp("cluster")
    with in_a_thread() as api, two_nodes() as lab:
        fill(api)
        options = ("--kubernetes", str(kubeconfig(config, api.url)), "--cluster-name", "east")
        with stack(lab, relay_options=options) as flowobs:
            yield Place(lab, flowobs, api)


def ping(lab: Lab, to: str, pod: str = "a", source: str = "", seconds: float = 0.2) -> None:
    words = [
        "ping",
        "-c",
        str(round(seconds / 0.2) + 1),
        "-i",
        "0.2",
        *(["-I", source] * (source != "")),
        to,
    ]
    lab.exec(pod, *words)


def flows(*arguments: str) -> Any:
    command = [sys.executable, "-m", "flowobs.cli.flows", *arguments]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def one(rows: list[dict[str, Any]], side: str) -> dict[str, Any]:
    """What is known of that end, the same on all ``rows``."""
    rows = [row for row in rows if row["kind"] != "lost"]  # those pass every filter
    shown = {
        json.dumps({k.removeprefix(f"{side}_"): v for k, v in row.items() if k in _names(side)})
        for row in rows
    }
    assert len(shown) == 1, [json.dumps(r) for r in rows if f"{side}_kind" not in r]
    found: dict[str, Any] = json.loads(shown.pop())
    return found


def _names(side: str) -> set[str]:
    names = "kind cluster namespace name workload workload_kind service services node zone labels"
    return {f"{side}_{n}" for n in (*names.split(), "container", "identity", "identity_source")}


def test_both_ends_are_known_whatever_they_are(place: Place) -> None:
    lab, flowobs, _ = place
    for address in (REMOTE, FAR, API, SERVICE, WORLD):
        ping(lab, address)
    for source in (NODE, GATEWAY):
        ping(lab, V4["a"], "node", source)
    flowobs.settle()

    def ends(a: str, b: str) -> list[dict[str, Any]]:
        return flowobs.rows(q=f"from:{a}%20to:{b}")

    source = one(ends(V4["a"], REMOTE), "src")
    assert source.pop("identity") >= 256
    assert source == {
        "kind": "pod", "cluster": "east", "namespace": "shop", "name": "web-0",
        "workload": "web", "workload_kind": "Deployment", "node": "lab-node", "zone": "z1",
        "labels": "app=web,tier=front", "container": "nginx", "identity_source": "kubernetes",
    }  # fmt: skip
    remote = one(ends(V4["a"], REMOTE), "dst")
    assert remote.pop("identity") >= 256
    assert remote == {
        "kind": "pod", "cluster": "east", "namespace": "data", "name": "db-0", "workload": "db",
        "workload_kind": "StatefulSet", "service": "all", "services": "all,db",
        "node": "far-node", "zone": "z2", "labels": "app=db,tier=back",
        "identity_source": "kubernetes",
    }  # fmt: skip
    for address, kind, name, identity in (
        (FAR, "node", "far-node", 6),
        (API, "external", "kube-apiserver", 7),
        (SERVICE, "service", "cache", 0),
        (WORLD, "world", "", 2),
    ):
        end = one(ends(V4["a"], address), "dst")
        found = end["kind"], end.get("name", ""), end.get("identity", 0)
        assert found == (kind, name, identity), address
    for address, kind in ((NODE, "node"), (GATEWAY, "host")):
        rows = ends(address, V4["a"])
        known = {(r["src_kind"], r["src_name"], r["src_identity"]) for r in rows}
        assert known == {(kind, "lab-node", 1)}


def test_pods_on_the_nodes_network_by_their_cgroup(place: Place) -> None:
    lab, flowobs, _ = place
    with contextlib.ExitStack() as undo:
        peer = Cgroup("far")
        undo.callback(peer.close)
        pod = Cgroup(f"kubepods-pod{UID.replace('-', '_')}.slice")
        undo.callback(pod.close)
        peer.start(lab, "far", "server", "tcp", FAR, "7600")
        client = pod.start(lab, "node", "client", "tcp", FAR, "7600")
        assert told(client) == "done"
        flowobs.settle()
    end = one(flowobs.rows(q=f"from:{NODE}%20port:7600"), "src")
    assert (end["kind"], end["namespace"], end["name"]) == ("pod", "kube-system", "kube-proxy")
    assert (end["workload_kind"], end["zone"]) == ("DaemonSet", "z1")


def test_questions_find_them_stored_and_live(place: Place) -> None:
    lab, flowobs, _ = place
    number = one(flowobs.rows(q=f"to:{REMOTE}"), "dst")["identity"]
    questions = ("dst.label:tier=back", "to.service:data/db", "dst.zone:z2 src.zone:z1",
                 f"identity:{number}", "identity:6", "label:app=w*", "service:cache")  # fmt: skip
    empty = ("label:tier=bac", "service:d", "zone:z3", "identity:8", "identity_age>0")
    live = {
        question: subprocess.Popen(
            [sys.executable, "-m", "flowobs.cli.flows", "--server", flowobs.url, "-f", question],
            stdout=subprocess.PIPE,
            text=True,
        )
        for question in questions
    }
    try:
        flowobs.wait(
            lambda: flowobs.get("/api/v1/status")["live"]["subscribers"] == len(live), "relay"
        )
        for address in (REMOTE, FAR, SERVICE):
            ping(lab, address)
        for question, process in live.items():
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["dst_ip"], question
    finally:
        for process in live.values():
            process.kill()
            process.communicate()
    for question in questions:
        assert flowobs.rows(q=question.replace(" ", "%20"), last=1), question
    for question in empty:
        assert flowobs.rows(q=question.replace(">", "%3E"), last=1) == [], question


def test_a_new_pods_first_packets_have_its_name(place: Place) -> None:
    _, flowobs, api = place
    new = things.pod("new-0", NEW, node="lab-node", started=time.time() - 5)
    with flowobs.held_back(NEW, V4["b"]):
        api.put("pods", new)
    flowobs.settle()
    near = [r for r in flowobs.rows(q=f"from:{NEW}") if r["reporter"] == "source"]
    assert near[0]["kind"] == "open" and {r.get("src_name") for r in near} == {"new-0"}
    held = flowobs.metric(flowobs.agent_url, "flowobs_agent_identity_held")
    assert held >= 1
    assert flowobs.metric(flowobs.agent_url, "flowobs_agent_identity_held_named") == held


def test_a_deleted_pods_address_is_not_its_successors(place: Place) -> None:
    lab, flowobs, api = place
    version = flowobs.get("/api/v1/status")["identity"]["version"]
    api.remove("pods", "shop", "new-0")
    flowobs.wait(lambda: followed(flowobs, version), "agent")
    gone = time.time_ns()
    time.sleep(0.2)
    ping(lab, V4["b"], source=NEW, seconds=0.4)
    time.sleep(2)
    version = flowobs.get("/api/v1/status")["identity"]["version"]
    api.put("pods", things.pod("next-0", NEW, node="lab-node", started=time.time() + 1))
    flowobs.wait(lambda: followed(flowobs, version), "agent")
    time.sleep(1.5)
    ping(lab, V4["b"], source=NEW, seconds=0.4)
    flowobs.settle()
    names = [r["src_name"] for r in flowobs.rows(q=f"from:{NEW}") if r.get("src_kind") == "pod"]
    assert list(dict.fromkeys(names)) == ["new-0", "next-0"]
    between = flowobs.rows(q=f"from:{NEW}%20not%20src.kind:pod")
    assert between, "nobody had it, whoever has it now"
    for where in (("--agent", flowobs.agent_url), ("--server", flowobs.url)):
        claims = flows("whois", NEW, *where)["claims"]
        assert (claims[0]["name"], claims[0]["accepted"]) == ("next-0", True)
        assert ("new-0", False) in [(c["name"], c["accepted"]) for c in claims]
        (then, *_) = flows("whois", NEW, "--at", stamp(gone - 3 * 10**9), *where)["claims"]
        assert (then["name"], then["accepted"]) == ("new-0", True)


def stamp(ns: int) -> str:
    return things.stamp(ns / 1e9)


def test_who_it_is_is_explained_by_both(place: Place) -> None:
    lab, flowobs, _ = place
    for where in (("--agent", flowobs.agent_url), ("--server", flowobs.url)):
        (claim,) = flows("whois", "data/db-0", *where)["claims"]
        assert (claim["address"], claim["accepted"]) == (REMOTE, True)
        assert (claim["services"], claim["zone"]) == ("all,db", "z2")
    lab.server(V4["b"], 7700)
    lab.client(V4["b"], 7700, 1)
    flowobs.settle()
    cookie = next(c for r in flowobs.rows(port=7700) if (c := r.get("src_cookie")))
    seen = flows("whois", str(cookie), "--server", flowobs.url)["seen"]
    assert seen[0]["name"] == "web-0" and seen[0]["process"]


def test_names_outlive_the_relay_and_follow_the_next(place: Place) -> None:
    lab, flowobs, api = place
    assert flowobs.relay is not None
    flowobs.relay.terminate()
    flowobs.relay.wait(60)
    api.put("pods", things.pod("web-1", "10.99.0.12", node="lab-node"))
    ping(lab, REMOTE)
    silent = 'flowobs_agent_identity_stale{resource="relay"}'
    flowobs.wait(lambda: flowobs.metric(flowobs.agent_url, silent), "agent")
    gone = stamp(time.time_ns())[:19]
    ping(lab, REMOTE)
    flowobs.start_relay()
    flowobs.wait(lambda: flowobs.get("/api/v1/status")["identity"]["agents"], "relay")
    flowobs.wait(lambda: followed(flowobs, 0), "agent")
    flowobs.settle()
    assert one(flowobs.rows(q=f"to:{REMOTE}"), "dst")["name"] == "db-0"
    while_away = flowobs.rows(q=f"to:{REMOTE}%20identity_age%3E14s")
    assert while_away and all(r["time"][:19] >= gone for r in while_away)
    claims = flows("whois", "shop/web-1", "--agent", flowobs.agent_url)["claims"]
    assert claims[0]["accepted"]


def test_an_api_server_that_is_away_is_told_of(place: Place) -> None:
    lab, flowobs, api = place
    api.faults.refuse_all = 503
    assert api.loop is not None
    for request in list(api._watching.values()):
        assert request.transport is not None
        api.loop.call_soon_threadsafe(request.transport.abort)
    flowobs.wait(lambda: age(flowobs) > 10, "relay")
    ping(lab, REMOTE)
    flowobs.settle()
    row = flowobs.rows(q=f"to:{REMOTE}", last=1)[0]
    assert row.get("dst_name") == "db-0", flows("whois", REMOTE, "--agent", flowobs.agent_url)
    assert row["dst_identity_age"] >= 10
    told = flows("status", "--server", flowobs.url)
    assert {r["resource"] for r in told["identity"]["resources"] if r["stale"]} >= {"pods", "nodes"}
    (agent,) = told["agents"]
    assert agent["names_age_s"] >= 10
    assert flowobs.rows(q="identity_age%3E5s%20dst.label:app=db", last=1)
    api.faults.refuse_all = 0
    flowobs.wait(lambda: age(flowobs) == 0, "relay")
    stale = "flowobs_agent_identity_stale"
    flowobs.wait(lambda: not flowobs.metric(flowobs.agent_url, stale), "agent")
    ping(lab, REMOTE)
    flowobs.settle()
    assert "dst_identity_age" not in flowobs.rows(q=f"to:{REMOTE}", last=1)[0]


def age(flowobs: Stack) -> float:
    resources = flowobs.get("/api/v1/status")["identity"]["resources"]
    return max((r["age_s"] for r in resources if r["stale"]), default=0)


def followed(flowobs: Stack, version: int) -> bool:
    (agent,) = flowobs.get("/api/v1/status")["identity"]["agents"]
    return bool(agent["version"] > version and agent["lag_s"] == 0)
