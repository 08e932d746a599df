"""Names, reporter and scope on batches made by hand."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import enrich as bench_enrich
from flowobs.agent.decode import Decoded
from flowobs.agent.enrich import Enricher
from flowobs.agent.owners import OwnerTable
from flowobs.agent.records import OWNER
from flowobs.batch import Array, Endpoint, Endpoints, FlowBatch, Strings
from flowobs.identity import Resolver, Socket
from flowobs.schema import EndpointKind, Kind, Reporter, Tunnel
from tests.identity.fakes import FakeSource, ip, pod

NODE_IP, POD_A, POD_B, WORLD = "192.168.1.5", "10.0.0.1", "10.0.0.2", "8.8.8.8"
ETH, VETH, LO, UPLINK, SUBNET, ROUTED, EMPTY = 2, 3, 1, 4, 14, 15, 0


@dataclass(frozen=True)
class Link:
    name: str
    loopback: bool = False
    peer_elsewhere: bool = False
    addresses: frozenset[bytes] = frozenset()
    in_subnet: bool = False


@dataclass
class Links:
    links: Mapping[int, Link] = field(
        default_factory=lambda: {
            LO: Link("lo", loopback=True, addresses=frozenset({ip("127.0.0.1")})),
            ETH: Link("eth0", addresses=frozenset({ip(NODE_IP), ip("fe80::1")})),
            VETH: Link("veth0", peer_elsewhere=True, addresses=frozenset({ip("fe80::2")})),
            UPLINK: Link("uplink0", peer_elsewhere=True, addresses=frozenset({ip("192.168.2.5")})),
            SUBNET: Link(
                "eth1", peer_elsewhere=True, addresses=frozenset({ip("172.18.0.2")}), in_subnet=True
            ),
            ROUTED: Link("veth1", peer_elsewhere=True, addresses=frozenset({ip("10.0.0.254")})),
        }
    )


NODE = Endpoint(EndpointKind.node, "demo", name="n1", node="n1", identity_source="inventory")


def owners(cookies: Array) -> tuple[Array, Array]:
    """Every cookie's process is called after it: p7 is pid 7."""
    found = np.zeros(len(cookies), OWNER.dtype)
    found["pid"] = cookies
    for row, cookie in zip(found, cookies.tolist(), strict=True):
        row["comm"] = np.frombuffer(b"p%d".ljust(17, b"\0") % cookie, np.uint8)[:16]
    return np.ones(len(cookies), np.bool_), found


@dataclass
class Bench:
    source: FakeSource = field(
        default_factory=lambda: FakeSource.of(
            {POD_A: pod("a"), POD_B: pod("b"), NODE_IP: NODE, "192.168.2.5": NODE}
        )
    )
    links: Links = field(default_factory=Links)
    scope: Container[int] | None = None
    endpoints: Endpoints = field(default_factory=lambda: Endpoints(Strings()))

    def __post_init__(self) -> None:
        self.enricher = Enricher(
            "n1", Resolver([self.source]), OwnerTable(owners), self.links, scope=self.scope
        )

    def see(self, *records: dict[str, Any]) -> FlowBatch:
        return self.enricher.enrich(self.decoded(*records))

    def decoded(self, *records: dict[str, Any]) -> Decoded:
        """Records given as columns, plus src, dst (text), ifindex, egress, netns."""
        flows = FlowBatch.zeros(len(records), self.endpoints)
        ifindex = np.zeros(len(records), np.uint32)
        egress = np.zeros(len(records), np.bool_)
        netns = np.zeros(len(records), np.uint32)
        for i, record in enumerate(records):
            beside = {"ifindex": ifindex, "egress": egress, "netns": netns}
            columns = flows.columns
            columns["kind"][i] = Kind.update
            for name, value in record.items():
                if name in beside:
                    beside[name][i] = value
                elif name in ("src", "dst"):
                    columns[f"{name}_ip"][i] = np.frombuffer(ip(value), np.uint8)
                else:
                    columns[name][i] = value
        return Decoded(flows, ifindex, egress, netns)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_both_ends_get_their_names(bench: Bench) -> None:
    seen = bench.see(
        {"src": POD_A, "dst": POD_B, "ifindex": VETH},
        {"src": WORLD, "dst": NODE_IP, "ifindex": ETH},
    )
    assert seen.strings("src_name") == ["a", ""]
    assert seen.strings("dst_name") == ["b", "n1"]
    assert seen["src_kind"].tolist() == [EndpointKind.pod, EndpointKind.world]
    assert seen.strings("interface") == ["veth0", "eth0"]
    assert seen.strings("node") == ["n1", "n1"]


R = Reporter
REPORTER = [
    (VETH, False, POD_A, POD_B, R.source),
    (VETH, True, POD_A, POD_B, R.destination),
    (VETH, False, POD_A, NODE_IP, R.source),
    (VETH, True, NODE_IP, POD_A, R.destination),
    (ETH, True, POD_A, WORLD, R.transit),
    (ETH, False, WORLD, POD_A, R.transit),
    (ETH, True, NODE_IP, WORLD, R.source),
    (ETH, False, WORLD, NODE_IP, R.destination),
    (ETH, True, NODE_IP, NODE_IP, R.source),
    (LO, True, "127.0.0.1", "127.0.0.1", R.source),
    (LO, False, "127.0.0.1", "127.0.0.1", R.source),
    (LO, False, NODE_IP, NODE_IP, R.source),
    # a node that is a container itself: its address says that the veth is its uplink
    (UPLINK, True, POD_A, WORLD, R.transit),
    (UPLINK, False, POD_B, POD_A, R.transit),
    (UPLINK, True, "192.168.2.5", WORLD, R.source),
    # or that it is in a subnet, whatever its name
    (SUBNET, True, POD_A, WORLD, R.transit),
    (SUBNET, False, POD_B, POD_A, R.transit),
    (SUBNET, True, "172.18.0.2", WORLD, R.source),
    (SUBNET, False, WORLD, "172.18.0.2", R.destination),
    # the node's address towards a pod that it routes to: on as many veths as there are pods
    (ROUTED, False, POD_A, WORLD, R.source),
    (ROUTED, True, WORLD, POD_A, R.destination),
    (ROUTED, True, "10.0.0.254", POD_A, R.source),
    (77, True, POD_A, POD_B, R.transit),
    (77, True, NODE_IP, POD_B, R.source),
]


@pytest.mark.parametrize(("ifindex", "egress", "src", "dst", "reporter"), REPORTER)
def test_the_end_next_to_the_interface_reports(
    bench: Bench, ifindex: int, egress: bool, src: str, dst: str, reporter: Reporter
) -> None:
    seen = bench.see({"src": src, "dst": dst, "ifindex": ifindex, "egress": egress})
    assert Reporter(seen["reporter"][0]) == reporter


@pytest.mark.parametrize(
    ("ifindex", "egress", "src", "reporter"),
    [
        # the pod itself makes the tunnel: nothing nearer to it is seen
        (VETH, False, POD_A, R.source),
        (VETH, True, POD_A, R.destination),
        # the flow is seen again at the tunnel's own device
        (ETH, True, NODE_IP, R.transit),
        (ETH, False, POD_A, R.transit),
        (UPLINK, True, POD_A, R.transit),
        (LO, True, NODE_IP, R.transit),
    ],
)
def test_what_a_tunnel_carries_is_reported_where_it_leaves_it(
    bench: Bench, ifindex: int, egress: bool, src: str, reporter: Reporter
) -> None:
    record = {"src": src, "dst": POD_B, "ifindex": ifindex, "egress": egress}
    assert Reporter(bench.see(record | {"tunnel": Tunnel.vxlan})["reporter"][0]) == reporter


def test_inside_a_pods_namespace_the_veth_is_its_own() -> None:
    links = Links({2: Link("eth0", peer_elsewhere=True, addresses=frozenset({ip(POD_A)}))})
    seen = Bench(links=links).see(
        {"src": POD_A, "dst": POD_B, "ifindex": 2, "egress": True},
        {"src": POD_B, "dst": POD_A, "ifindex": 2, "egress": False},
    )
    assert seen["reporter"].tolist() == [R.source, R.destination]


KERNEL = [
    ({"kind": Kind.retransmit, "reply": 0, "src_cookie": 5}, POD_A, POD_B, R.source),
    ({"kind": Kind.retransmit, "reply": 1, "dst_cookie": 5}, POD_A, POD_B, R.destination),
    ({"kind": Kind.fail, "reply": 0}, POD_A, POD_B, R.source),
    ({"kind": Kind.reset, "reply": 1}, POD_A, POD_B, R.destination),
    # a reset that came in: sent by the destination, noticed by the source's socket
    ({"kind": Kind.reset, "reply": 1, "src_cookie": 5}, POD_A, WORLD, R.source),
    ({"kind": Kind.reset, "reply": 0, "src_cookie": 5, "dst_cookie": 6}, POD_A, POD_B, R.source),
    ({"kind": Kind.drop}, POD_A, POD_B, R.transit),
    ({"kind": Kind.drop}, NODE_IP, POD_B, R.source),
    ({"kind": Kind.drop}, POD_A, NODE_IP, R.destination),
    ({"kind": Kind.drop}, "127.0.0.1", "127.0.0.1", R.source),
    ({"kind": Kind.lost}, "::", "::", R.unknown),
]


@pytest.mark.parametrize(("record", "src", "dst", "reporter"), KERNEL)
def test_without_an_interface_the_socket_reports(
    bench: Bench, record: dict[str, int], src: str, dst: str, reporter: Reporter
) -> None:
    seen = bench.see({"src": src, "dst": dst, **record})
    assert Reporter(seen["reporter"][0]) == reporter
    assert seen.strings("interface") == [""]


def test_an_interface_that_is_gone_keeps_its_name(bench: Bench) -> None:
    record = {"src": POD_A, "dst": POD_B, "ifindex": VETH}
    bench.see(record)
    bench.links.links = {}
    seen = bench.see(record, {**record, "ifindex": 99})
    assert seen.strings("interface") == ["veth0", "if99"]
    assert seen["reporter"].tolist() == [R.source, R.transit]


def test_interfaces_that_are_gone_are_forgotten_in_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowobs.agent.vantage._MAX_GONE", 2)
    for index in range(10, 15):
        bench.links.links = {index: Link(f"veth{index}")}
        bench.see({"src": POD_A, "dst": POD_B})
    seen = bench.see(*({"src": POD_A, "dst": POD_B, "ifindex": i} for i in range(10, 15)))
    assert seen.strings("interface") == ["if10", "if11", "veth12", "veth13", "veth14"]


def test_more_interfaces_than_it_can_hold_have_no_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowobs.agent.vantage._MAX_LINKS", 2)
    bench = Bench()
    for indexes in ((5, 6), (6, 7), (7, 8, 9)):
        seen = bench.see(*({"src": POD_A, "dst": POD_B, "ifindex": i} for i in indexes))
        assert seen.strings("interface")[:2] == [f"if{i}" for i in indexes[:2]]
    assert seen.strings("interface")[2] == ""


def test_an_address_that_becomes_local_is_seen_at_once(bench: Bench) -> None:
    record = {"src": "10.9.9.9", "dst": WORLD, "ifindex": ETH, "egress": True}
    assert bench.see(record)["reporter"][0] == R.transit
    bench.links.links = {ETH: Link("eth0", addresses=frozenset({ip("10.9.9.9")}))}
    assert bench.see(record)["reporter"][0] == R.source


def test_processes_that_share_an_address_are_told_apart(bench: Bench) -> None:
    unit = Endpoint(
        EndpointKind.host, workload="sshd.service", workload_kind="SystemdUnit", node="n1"
    )
    container = Endpoint(EndpointKind.container, name="abc", container="abc", node="n1")
    bench.source.sockets = {
        Socket(0, 7, "p7"): unit,
        Socket(0, 8, "p8"): container,
        Socket(55, 0, ""): unit,
    }
    seen = bench.see(
        {"src": NODE_IP, "dst": POD_A, "src_cookie": 7, "dst_cookie": 8},
        {"src": NODE_IP, "dst": WORLD, "src_cookie": 8},
        {"src": NODE_IP, "dst": WORLD, "src_cookie": 9},
        {"src": NODE_IP, "dst": WORLD, "src_cgroup": 55},
        {"src": NODE_IP, "dst": WORLD},
    )
    assert seen.strings("src_workload") == ["sshd.service", "", "", "sshd.service", ""]
    assert seen.strings("src_name") == ["n1", "abc", "n1", "n1", "n1"]
    assert seen.strings("dst_name")[0] == "a", "a pod's address says more than its socket"
    assert seen.strings("src_process") == ["p7", "p8", "p9", "", ""]


def test_a_pod_of_several_containers_has_that_of_the_socket(bench: Bench) -> None:
    bench.source.sockets = {
        Socket(0, 7, "p7"): pod("a")._replace(container="proxy"),
        Socket(0, 8, "p8"): pod("other")._replace(container="app"),
        Socket(0, 9, "p9"): Endpoint(EndpointKind.container, name="abc", container="abc"),
    }
    records = [{"src": POD_A, "dst": WORLD, "src_cookie": cookie} for cookie in (7, 8, 9, 0)]
    seen = bench.see(*records)
    assert seen.strings("src_name") == ["a"] * 4
    assert seen.strings("src_container") == ["proxy", "", "", ""], "others only use its network"


def test_a_loopback_address_of_another_namespace_is_not_the_host(bench: Bench) -> None:
    bench.source = FakeSource.of({"127.0.0.0/8": NODE})  # as this host's own source has it
    bench.source.sockets = {
        Socket(0, 7, "p7"): pod("a")._replace(container="app"),
        Socket(0, 8, "p8"): pod("a")._replace(container="proxy"),
    }
    bench.__post_init__()
    refused = {"src": "127.0.0.1", "dst": "127.0.0.1", "kind": Kind.fail}
    seen = bench.see(
        refused | {"src_cookie": 7, "netns": 42},
        refused | {"dst_cookie": 7, "netns": 42},
        refused | {"src_cookie": 7, "dst_cookie": 8, "netns": 42},
        refused | {"src_cookie": 9, "netns": 42},
        refused | {"netns": 42},
        refused | {"src_cookie": 9},
    )
    assert seen.strings("src_name") == ["a", "a", "a", "n1", "", "n1"]
    assert seen.strings("dst_name") == ["a", "a", "a", "", "", "n1"]
    assert seen.strings("src_container") == ["app", "", "app", "", "", ""]
    assert seen.strings("dst_container") == ["", "app", "proxy", "", "", ""]


def test_what_is_remote_elsewhere_is_the_host_here(bench: Bench) -> None:
    numbered = NODE._replace(identity=6)
    bench.source.prefixes = FakeSource.of({NODE_IP: numbered, "192.168.1.6": numbered}).prefixes
    seen = bench.see({"src": NODE_IP, "dst": "192.168.1.6"}, {"src": NODE_IP, "dst": WORLD})
    assert seen["src_identity"].tolist() == [1, 1]
    assert seen["dst_identity"].tolist() == [6, 2]


def test_a_name_that_may_be_out_of_date_has_its_age(bench: Bench) -> None:
    record = {"src": POD_A, "dst": WORLD}
    assert bench.see(record)["src_identity_age"].tolist() == [0]
    bench.source.age_s = 95
    seen = bench.see(record)
    assert (seen["src_identity_age"][0], seen["dst_identity_age"][0]) == (95, 0), "of ours alone"


def test_names_are_those_of_the_records_time(bench: Bench) -> None:
    records = [{"src": POD_A, "dst": WORLD, "time": t} for t in (50, 150)]
    assert bench.see(*records).strings("src_name") == ["a", "a"]
    bench.source.replace({POD_A: pod("new")}, 100)
    assert bench.see(*records).strings("src_name") == ["a", "new"]


def test_a_known_address_is_not_asked_for_again(bench: Bench) -> None:
    record = {"src": POD_A, "dst": POD_B, "ifindex": VETH}
    bench.see(record)
    asked = bench.source.asked
    bench.see(*[record] * 100)
    assert bench.source.asked == asked


def test_a_new_endpoint_table_gets_the_names_again(bench: Bench) -> None:
    record = {"src": POD_A, "dst": NODE_IP, "ifindex": VETH, "dst_cookie": 5}
    bench.see(record)
    bench.endpoints = Endpoints(Strings())
    bench.endpoints.strings.id("something else")
    seen = bench.see(record)
    assert (seen.strings("src_name"), seen.strings("dst_process")) == (["a"], ["p5"])
    assert (seen.strings("interface"), seen.strings("node")) == (["veth0"], ["n1"])


def test_only_the_observed_namespaces_are_seen() -> None:
    host = FakeSource.of(
        {"192.168.7.7": Endpoint(EndpointKind.host, name="me", identity_source="host")}, "host"
    )
    bench = Bench(scope={4000})
    bench.enricher = Enricher(
        "n1", Resolver([bench.source, host]), OwnerTable(owners), bench.links, scope={4000}
    )
    drop = {"kind": Kind.drop, "netns": 1}
    unsure = drop | {"netns": 0}  # the kernel did not know
    seen = bench.see(
        {"src": "10.5.5.5", "dst": WORLD, **drop},
        {"src": "10.5.5.5", "dst": WORLD, **drop, "netns": 4000, "src_port": 1},
        {"src": "10.5.5.5", "dst": WORLD, **drop, "netns": 0, "ifindex": ETH, "src_port": 2},
        {"src": "::", "dst": "::", "kind": Kind.lost, "src_port": 6},
        {"src": WORLD, "dst": POD_A, **unsure, "src_port": 3},
        {"src": WORLD, "dst": NODE_IP, **unsure, "src_port": 4},
        {"src": WORLD, "dst": POD_A, **drop},  # a pod of the same address elsewhere
        {"src": "127.0.0.1", "dst": "127.0.0.1", **drop},
        {"src": "127.0.0.1", "dst": "127.0.0.1", **unsure},
        {"src": "127.0.0.1", "dst": "127.0.0.1", **drop, "netns": 4000, "src_port": 5},
        {"src": "192.168.7.7", "dst": WORLD, **drop},
    )
    assert seen["src_port"].tolist() == [1, 2, 6, 3, 4, 5]
    assert bench.enricher.out_of_scope == 5


def test_without_a_scope_all_is_seen(bench: Bench) -> None:
    assert len(bench.see({"src": "127.0.0.1", "dst": "127.0.0.1", "netns": 1})) == 1


def test_an_empty_batch_stays_empty(bench: Bench) -> None:
    assert len(bench.see()) == 0


def test_a_hundred_times_the_pods_cost_the_same(tmp_path: Path) -> None:
    """Both figures from the same run; a lookup that grew with the pods would be far off."""
    seconds = {}
    for pods in (100, 10_000):
        enricher = bench_enrich.enricher(bench_enrich.inventory(tmp_path, pods))
        decoded = bench_enrich.batch(pods, 0.5, Endpoints(Strings()))
        enricher.enrich(decoded)
        seconds[pods] = bench_enrich.best(partial(enricher.enrich, decoded))
    assert seconds[10_000] < 4 * seconds[100]
