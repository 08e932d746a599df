"""GET /api/v1/service-map: every flow once, whoever saw it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from flowobs import schema
from flowobs.batch import Endpoint, Endpoints, FlowBatch
from flowobs.filters import EVERYTHING, from_parameters
from flowobs.schema import Kind, Reporter
from relay.http.parameters import MapQuery
from relay.http.service_map import build
from relay.store import Reader, Store
from relay.store.plan import Plan, Slice
from tests.relay.flows import API, DB, WEB, flows, table

PATH = (
    "sent_packets", "arrived_packets", "reply_sent_packets", "reply_arrived_packets",
    "sent_bytes", "arrived_bytes", "reply_sent_bytes", "reply_arrived_bytes", "path_loss",
)  # fmt: skip


class Map:
    """A store to fill, and the map of what is in it. Each test's flows have hours of their own."""

    def __init__(self, store: Store, reader: Reader) -> None:
        self._store = store
        self._reader = reader
        self.endpoints: Endpoints = table()
        self.from_ns = time.time_ns() - 40 * 3600 * 10**9
        self._inserts = 0
        self._waiting: list[FlowBatch] = []

    def next_hour(self) -> None:
        self.from_ns += 3600 * 10**9

    def add(self, rows: int = 1, **columns: Any) -> FlowBatch:
        self._inserts += 1
        columns = {"start_ns": self.from_ns + self._inserts * 10**6, "first_port": 1000} | columns
        batch = flows(rows, self.endpoints, **columns)
        self._waiting.append(batch)
        return batch

    def plan(self, from_ns: int, to_ns: int) -> Plan:
        return Plan((Slice("flows", from_ns, to_ns),))

    def query(self, select: str, parameters: dict[str, Any]) -> Any:
        if self._waiting:
            self._store.insert(self._waiting, f"insert-{self._inserts}")
            self._waiting = []
        return self._reader.query(select, parameters)

    def get(self, namespace: str = "", **kw: Any) -> dict[str, Any]:
        filter = from_parameters({"namespace": [namespace]}) if namespace else EVERYTHING
        query = MapQuery(filter, self.from_ns, self.from_ns + 3600 * 10**9, **kw)
        answer: dict[str, Any] = json.loads(build(self, query))  # type: ignore[arg-type]
        return answer

    def edges(self, **kw: Any) -> list[dict[str, Any]]:
        edges: list[dict[str, Any]] = self.get(**kw)["edges"]
        return sorted(edges, key=lambda e: (e["source"], e["destination"], e["port"]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Map]:
    store = Store.open(f"chdb://{tmp_path_factory.mktemp('map') / 'store'}", retention="30d")
    yield Map(store, store.reader())
    store.close()


@pytest.fixture
def map(whole: Map) -> Map:
    whole.next_hour()
    return whole


def test_an_edge_has_everything(map: Map) -> None:
    opened = map.add(3, kind=Kind.open, packets=0, bytes=0, reply_packets=0, reply_bytes=0)
    map.add(3)
    closed = map.add(3, kind=Kind.close, packets=5, bytes=500, reply_packets=4, reply_bytes=400)
    answer = map.get()
    assert answer["more"] is False
    (edge,) = answer["edges"]
    times = edge.pop("first_seen"), edge.pop("last_seen")
    path = {name: edge.pop(name) for name in PATH}
    assert set(path.values()) == {None}  # only one side told
    rows = [*opened.rows(), *closed.rows()]
    assert times == (rows[0]["time"], rows[-1]["time"])
    assert edge == {
        "source": "shop/web-0",
        "destination": "shop/api-1",
        "proto": "tcp",
        "port": 8080,
        "flows": 3,
        "opens": 3,
        "closes": 3,
        "packets": 21,
        "bytes": 2100,
        "reply_packets": 15,
        "reply_bytes": 1500,
        "drops": 0,
        "resets": 0,
        "retransmits": 0,
        "fails": 0,
        "connect_ms": None,
        "connect_p95_ms": None,
        "connect_p99_ms": None,
        "rtt_ms": None,
        "rtt_p95_ms": None,
        "rtt_p99_ms": None,
        "drop_reasons": {},
        "reporter": "source",
    }
    node = next(n for n in answer["nodes"] if n["id"] == "shop/api-1")
    assert node == {
        "id": "shop/api-1",
        "kind": "pod",
        "cluster": "",
        "namespace": "shop",
        "name": "api-1",
        "workload": "api",
        "workload_kind": "Deployment",
        "service": "api",
        "node": "node-2",
        "zone": "",
        "addresses": ["10.0.0.2"],
    }


def test_the_source_counts_and_others_do_not(map: Map) -> None:
    map.add(2, interface="eth0", node="node-2", reporter=Reporter.transit, packets=90)
    map.add(2, interface="veth1", node="node-2", reporter=Reporter.destination, packets=80)
    map.add(2, interface="veth0", reporter=Reporter.source, packets=2)
    (edge,) = map.edges()
    assert (edge["flows"], edge["packets"], edge["reporter"]) == (2, 4, "source")


def test_two_interfaces_of_one_reporter_count_once(map: Map) -> None:
    map.add(1, interface="bond0", packets=10)
    map.add(1, interface="eth0", packets=10)
    (edge,) = map.edges()
    assert (edge["flows"], edge["packets"]) == (1, 10)


@pytest.mark.parametrize("only", [Reporter.destination, Reporter.transit, Reporter.unknown])
def test_flows_that_one_side_saw_are_there(map: Map, only: Reporter) -> None:
    map.add(2, reporter=Reporter.source)
    map.add(3, reporter=only, first_port=2000)  # other flows of the same edge
    (edge,) = map.edges()
    assert (edge["flows"], edge["packets"]) == (5, 10)
    assert edge["reporter"] == only.name  # of most flows


def test_flows_opened_before_the_range_count_once(map: Map) -> None:
    for _ in range(4):
        map.add(2)
    map.add(1, kind=Kind.open, first_port=7000, packets=0, bytes=0)
    (edge,) = map.edges()
    assert edge["flows"] == 3


def test_a_port_used_again_is_another_flow(map: Map) -> None:
    for kind in (Kind.open, Kind.close, Kind.open, Kind.close):
        map.add(1, kind=kind)
    (edge,) = map.edges()
    assert (edge["flows"], edge["closes"]) == (2, 2)


def test_events_count_wherever_they_were_seen(map: Map) -> None:
    quiet = {"packets": 0, "bytes": 0, "reply_packets": 0, "reply_bytes": 0, "interface": ""}
    map.add(1)
    map.add(1, kind=Kind.drop, drop_reason="NETFILTER_DROP", lost=9, **quiet)
    map.add(
        1, kind=Kind.drop, drop_reason="NO_SOCKET", reporter=Reporter.unknown, node="n2", **quiet
    )
    map.add(1, kind=Kind.retransmit, **quiet)
    map.add(1, kind=Kind.retransmit, reporter=Reporter.destination, **quiet)
    map.add(1, kind=Kind.reset, reporter=Reporter.source, **quiet)  # got it
    map.add(1, kind=Kind.reset, reporter=Reporter.destination, **quiet)  # sent it
    map.add(1, kind=Kind.fail, first_port=5555, **quiet)  # never had a packet
    (edge,) = map.edges()
    assert edge["drop_reasons"] == {"NETFILTER_DROP": 10, "NO_SOCKET": 1}
    names = ("flows", "packets", "drops", "retransmits", "resets", "fails")
    assert [edge[name] for name in names] == [1, 2, 11, 2, 1, 1]


def test_an_edge_of_events_only(map: Map) -> None:
    map.add(1, kind=Kind.fail, dst=DB, dst_port=5432, packets=0, bytes=0, interface="")
    (edge,) = map.edges()
    assert (edge["destination"], edge["flows"], edge["fails"]) == ("legacy-db", 0, 1)


def test_ids_and_groups(map: Map) -> None:
    nobody = Endpoint()
    map.add(2, dst=nobody, dst_ip="192.0.2.7", dst_port=443)
    map.add(1, dst=nobody, dst_ip="224.0.0.251", dst_port=5353, proto=schema.Protocol.udp)
    map.add(1, dst=nobody, dst_ip="239.255.255.250", dst_port=5353, proto=schema.Protocol.udp)
    map.add(1, dst=nobody, dst_ip="255.255.255.255", dst_port=67, proto=schema.Protocol.udp)
    map.add(2, dst=nobody, dst_ip="192.0.2.8", dst_port=77, proto=schema.Protocol.icmp)
    map.add(2, dst=nobody, dst_ip="192.0.2.8", dst_port=78, proto=schema.Protocol.icmp)
    map.add(1, src=DB, dst=nobody, dst_ip="192.0.2.9", proto=253, dst_port=0)
    answer = map.get()
    ends = {(e["source"], e["destination"], e["proto"], e["port"], e["flows"]) for e in map.edges()}
    assert ends == {
        ("shop/web-0", "192.0.2.7", "tcp", 443, 2),
        ("shop/web-0", "multicast", "udp", 5353, 2),
        ("shop/web-0", "broadcast", "udp", 67, 1),
        ("shop/web-0", "192.0.2.8", "icmp", 0, 4),
        ("legacy-db", "192.0.2.9", "253", 0, 1),
    }
    nodes = {n["id"]: n for n in answer["nodes"]}
    assert nodes["multicast"]["addresses"] == ["224.0.0.251", "239.255.255.250"]
    assert nodes["192.0.2.7"]["kind"] == "unknown" and nodes["192.0.2.7"]["name"] == ""
    assert nodes["legacy-db"]["kind"] == "vm"


def test_namespace_and_lost_records(map: Map) -> None:
    ops = Endpoint(schema.EndpointKind.pod, "", "ops", "job-1")
    map.add(1)
    map.add(1, src=ops, src_ip="10.0.0.9", dst=DB)
    map.add(1, kind=Kind.lost, lost=100)
    assert len(map.edges()) == 2
    assert [e["source"] for e in map.edges(namespace="ops")] == ["ops/job-1"]
    assert [n["id"] for n in map.get(namespace="nobody")["nodes"]] == []


def test_the_newest_name_wins(map: Map) -> None:
    map.add(1, dst=Endpoint(), first_port=1)
    map.add(1, dst=API, first_port=1)
    (edge,) = map.edges()
    assert edge["destination"] == "shop/api-1"


def test_what_runs_on_a_host_is_told_apart(map: Map) -> None:
    """One machine is many things: `flowobs up` would show a single node otherwise."""
    me = Endpoint(schema.EndpointKind.host, name="laptop", node="laptop")
    curl = me._replace(workload="curl", workload_kind="Process")
    web = me._replace(workload="nginx.service", workload_kind="SystemdUnit")
    map.add(src=curl, dst=web, kind=Kind.open)
    (edge,) = map.edges()
    assert (edge["source"], edge["destination"]) == ("laptop/curl", "laptop/nginx.service")


def test_latencies_are_of_handshakes_and_samples(map: Map) -> None:
    def connection(port: int, ms: int, **columns: Any) -> None:
        for flags in (0x1A, 0x18, 0x11):  # each record repeats what is known of the connection
            map.add(first_port=port, tcp_flags=flags, connect_ns=ms * 10**6, **columns)

    for i in range(100):
        connection(i + 1, i + 1, src_srtt_us=1000 * (i + 1))
    connection(1, 5000, reporter=Reporter.destination, interface="veth1")  # not the best point
    (edge,) = map.edges()
    for name in ("connect", "rtt"):
        assert edge[f"{name}_ms"] == pytest.approx(50, rel=0.09)
        assert edge[f"{name}_p95_ms"] == pytest.approx(95, rel=0.09)
        assert edge[f"{name}_p99_ms"] == pytest.approx(99, rel=0.09)
    (edge,) = map.get(latency=False)["edges"]
    assert edge["rtt_ms"] is None


def test_a_round_trip_is_what_a_socket_says_or_the_handshake(map: Map) -> None:
    map.add(first_port=1, src_srtt_us=100, dst_srtt_us=9000)
    (edge,) = map.edges()
    assert edge["rtt_ms"] == pytest.approx(0.1, rel=0.09)
    map.next_hour()
    map.add(first_port=2, tcp_flags=2, src_rtt_ns=100_000, dst_rtt_ns=200_000)
    map.add(first_port=2, src_rtt_ns=9_000_000, dst_rtt_ns=200_000)  # no SYN: told before
    (edge,) = map.edges()
    assert edge["rtt_ms"] == pytest.approx(0.3, rel=0.09)


def test_sent_and_arrived(map: Map) -> None:
    map.add(2, packets=10, bytes=1000, reply_packets=5, reply_bytes=500)
    arrived = {"packets": 8, "bytes": 800, "reply_packets": 6, "reply_bytes": 600}
    map.add(2, reporter=Reporter.destination, interface="veth1", **arrived)
    map.add(1, src=DB, src_ip="10.0.0.7", packets=100)  # nobody tells what arrived
    alone, told = map.edges()
    assert [told[name] for name in PATH] == [20, 16, 12, 10, 2000, 1600, 1200, 1000, 6]
    assert (told["packets"], told["reply_packets"]) == (20, 10)
    assert [alone[name] for name in PATH] == [None] * len(PATH)


LABELS = {"zone": "z1", "labels": "app=web,app.kubernetes.io/name=w,tier=front"}


@pytest.mark.parametrize(
    ("group", "source"),
    [
        ("pod", "shop/web-0"),
        ("workload", "shop/web"),
        ("service", "shop/web"),
        ("namespace", "shop"),
        ("node", "node-1"),
        ("zone", "z1"),
        ("cluster", "shop/web-0"),  # it has none
        ("process", "shop/web-0 nginx"),
        ("address", "10.0.0.1"),
        ("label:app", "app=web"),
        ("label:app.kubernetes.io/name", "app.kubernetes.io/name=w"),
        ("label:pp", "shop/web-0"),
    ],
)
def test_groups(map: Map, group: str, source: str) -> None:
    web = WEB._replace(**LABELS)
    map.add(2, src=web, dst=DB, src_process="nginx")
    map.add(1, src=web._replace(name="web-1"), src_ip="10.0.0.3", dst=DB, first_port=7)
    edges = {e["source"]: e for e in map.edges(group=group)}
    together = group not in ("pod", "cluster", "process", "address", "label:pp")
    assert (edges[source]["flows"], edges[source]["packets"]) == ((3, 6) if together else (2, 4))
    assert {n["id"] for n in map.get(group=group)["nodes"]} == {
        *edges,
        *(e["destination"] for e in edges.values()),
    }


def test_each_end_tells_its_own_process(map: Map) -> None:
    map.add(src_process="curl")
    map.add(dst_process="nginx", reporter=Reporter.destination, interface="veth1")
    (edge,) = map.edges(group="process")
    assert (edge["source"], edge["destination"]) == ("shop/web-0 curl", "shop/api-1 nginx")


def test_a_record_without_a_process_does_not_take_it_from_its_flow(map: Map) -> None:
    """Such as what an ICMP error quotes, which comes last."""
    map.add(src_process="curl", dst_process="nginx")
    error = {"packets": 0, "bytes": 0, "reply_packets": 0, "reply_bytes": 0}
    map.add(kind=Kind.icmp_error, **error)
    (edge,) = map.edges(group="process")
    assert (edge["source"], edge["destination"]) == ("shop/web-0 curl", "shop/api-1 nginx")


def test_the_world_is_one_node(map: Map) -> None:
    world = Endpoint(schema.EndpointKind.world)
    for last in (1, 2, 3):
        map.add(dst=world, dst_ip=f"8.8.8.{last}", first_port=last)
    named = Endpoint(schema.EndpointKind.external, name="github")
    map.add(dst=named, dst_ip="8.8.4.4")
    assert {(e["destination"], e["flows"]) for e in map.edges()} == {("world", 3), ("github", 1)}
    (node,) = (n for n in map.get()["nodes"] if n["id"] == "world")
    assert node["addresses"] == ["8.8.8.1", "8.8.8.2", "8.8.8.3"]
    assert len(map.edges(group="address")) == 4


def test_retransmits_of_records_make_good_what_events_miss(map: Map) -> None:
    map.add(kind=Kind.retransmit, packets=0, bytes=0, reply_packets=0, reply_bytes=0)
    map.add(retransmits=3, reply_retransmits=1)
    map.add(retransmits=3, reporter=Reporter.destination, interface="veth1")
    (edge,) = map.edges()
    assert edge["retransmits"] == 4
