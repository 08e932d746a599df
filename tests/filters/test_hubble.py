"""Hubble's FlowFilter selects what Hubble's semantics say (see its filter packages)."""

from typing import Any

import numpy as np
import pytest

from flowobs.batch import Endpoint, Endpoints, FlowBatch, Strings
from flowobs.filters import FilterError, Mask
from flowobs.filters.hubble import _FIELDS, flow_filter, flow_filters
from flowobs.filters.tree import packed
from flowobs.schema import EndpointKind, Kind, Reporter


@pytest.fixture(scope="module")
def batch() -> FlowBatch:
    """0: shop/web-0 -> shop/api-1:8080; 1: default/web-1 -> api.example:443, dropped; 2: ICMPv6."""
    endpoints = Endpoints(Strings())
    text = endpoints.strings.id
    pod, external = EndpointKind.pod, EndpointKind.external
    web = endpoints.id(
        Endpoint(pod, "", "shop", "web-0", "web", "Deployment", labels="app=web,tier=a")
    )
    other = endpoints.id(
        Endpoint(pod, "", "default", "web-1", "web", "StatefulSet", labels="app=web", identity=300)
    )
    api = endpoints.id(
        Endpoint(pod, "", "shop", "api-1", "api", "Deployment", "api", services="api,backend")
    )
    peer = endpoints.id(Endpoint(external, "east", "", "api.example", identity=2))
    made = FlowBatch.zeros(3, endpoints)
    made.columns["src_endpoint"][:] = [web, other, 0]
    made.columns["dst_endpoint"][:] = [api, peer, 0]
    made.columns["dst_port"][:] = [8080, 443, 443]
    made.columns["proto"][:] = [6, 6, 58]
    made.columns["kind"][:] = [Kind.open, Kind.drop, Kind.update]
    made.columns["verdict"][:] = [1, 2, 1]
    made.columns["reply"][:] = [0, 1, 0]
    made.columns["tcp_flags"][:] = [0x02, 0x12, 0]
    made.columns["reporter"][:] = [Reporter.source, Reporter.destination, Reporter.transit]
    made.columns["drop_reason"][:] = [0, text("NO_SOCKET"), 0]
    made.columns["node"][:] = [text("node-1"), text("node-2"), text("node-1")]
    made.columns["interface"][:] = [text("eth0"), text("veth1"), text("eth0")]
    for row, (source, peer_ip) in enumerate(
        [("10.0.0.1", "10.0.0.2"), ("10.1.0.1", "192.0.2.1"), ("fd00::1", "fd00::2")]
    ):
        made.columns["src_ip"][row] = np.frombuffer(packed(source), "u1")
        made.columns["dst_ip"][row] = np.frombuffer(packed(peer_ip), "u1")
    return made


@pytest.mark.parametrize(
    ("message", "rows"),
    [
        ({}, [0, 1, 2]),
        ({"source_ip": [], "verdict": []}, [0, 1, 2]),
        ({"source_ip": ["10.0.0.1"]}, [0]),
        ({"source_ip": ["10.0.0.0/8", "fd00::1"]}, [0, 1, 2]),
        ({"destination_ip": ["fd00::/16"]}, [2]),
        ({"source_pod": ["shop/web"]}, [0]),
        ({"source_pod": ["shop/"]}, [0]),
        ({"source_pod": ["web"]}, [1]),
        ({"source_pod": ["/web"]}, [0, 1]),
        ({"source_pod": ["/"]}, [0, 1]),
        ({"source_pod": ["shop/web-*"]}, []),
        ({"destination_service": ["shop/ap"]}, [0]),
        ({"destination_service": ["shop/back"]}, [0]),
        ({"destination_service": ["back"]}, []),
        ({"destination_service": ["/back"]}, [0]),
        ({"destination_service": ["shop/b*"]}, []),
        ({"source_label": ["app=web"]}, [0, 1]),
        ({"source_label": ["k8s:app = web, tier==a"]}, [0]),
        ({"source_label": ["app"]}, [0, 1]),
        ({"source_label": ["ap"]}, []),
        ({"source_label": ["!tier"]}, [1, 2]),
        ({"source_label": ["cidr:10.0.0.0/8"]}, []),
        ({"source_label": ["tier!=b"]}, [0, 1, 2]),
        ({"source_label": ["any:tier in (a, b)"]}, [0]),
        ({"source_label": ["tier notin (a)", "tier=a"]}, [0, 1, 2]),
        ({"source_label": ["app notin (web)"]}, [2]),
        ({"source_label": ["k8s:io.kubernetes.pod.namespace=shop"]}, [0]),
        ({"source_label": ["io.kubernetes.pod.namespace"]}, [0, 1]),
        ({"destination_label": ["reserved:world"]}, [1]),
        ({"destination_label": ["reserved:unheard"]}, []),
        ({"destination_label": ["io.cilium.k8s.policy.cluster=east"]}, [1]),
        ({"source_identity": [300, 2]}, [1]),
        ({"destination_identity": [2]}, [1]),
        ({"destination_fqdn": ["*.EXAMPLE."]}, [1]),
        ({"destination_fqdn": ["api-1"]}, []),
        ({"source_workload": [{"name": "web"}]}, [0, 1]),
        ({"source_workload": [{"name": "web", "kind": "StatefulSet"}]}, [1]),
        ({"source_workload": [{}]}, [0, 1, 2]),
        ({"destination_cluster_name": ["e*"]}, [1]),
        ({"destination_port": ["443"]}, [1]),
        ({"destination_port": ["443", "8080"], "source_pod": ["shop/"]}, [0]),
        ({"verdict": [2]}, [1]),
        ({"verdict": ["FORWARDED", "ERROR"]}, [0, 2]),
        ({"verdict": ["REDIRECTED"]}, []),
        ({"protocol": ["icmp"]}, [2]),
        ({"protocol": ["TCP", "icmpv4"]}, [0, 1]),
        ({"protocol": ["http"]}, []),
        ({"event_type": [{"type": 1}]}, [1]),
        ({"event_type": [{"type": 4}]}, [0, 2]),
        ({"event_type": [{"type": 129}]}, []),
        ({"event_type": [{}]}, [0, 1, 2]),
        ({"reply": [True]}, [1]),
        ({"reply": [False]}, [0, 2]),
        ({"tcp_flags": [{"SYN": True}]}, [0, 1]),
        ({"tcp_flags": [{"SYN": True, "ACK": True}]}, [1]),
        ({"tcp_flags": [{"NS": False}]}, [0, 1, 2]),
        ({"node_name": ["node-1"]}, [0, 2]),
        ({"node_name": ["default/NODE-2."]}, [1]),
        ({"node_name": ["east/node-1"]}, []),
        ({"node_name": ["*/"]}, [0, 1, 2]),
        ({"ip_version": ["IPv4"]}, [0, 1]),
        ({"ip_version": [2]}, [2]),
        ({"ip_version": [0]}, []),
        ({"traffic_direction": ["EGRESS"]}, [0]),
        ({"traffic_direction": [1]}, [1]),
        ({"traffic_direction": [0]}, [2]),
        ({"drop_reason_desc": ["NO_SOCKET"]}, [1]),
        ({"drop_reason_desc": [0]}, [1]),
        ({"drop_reason_desc": [133]}, []),
        ({"interface": [{"name": "eth0"}]}, [0, 2]),
    ],
)
def test_filters_select(batch: FlowBatch, message: dict[str, Any], rows: list[int]) -> None:
    assert Mask(flow_filter(message))(batch).nonzero()[0].tolist() == rows


ASKED = {
    *(f"{end}_{what}" for end in ("source", "destination") for what in (
        "ip", "pod", "service", "label", "identity", "fqdn", "workload", "port", "cluster_name",
    )),
    *("verdict", "traffic_direction", "ip_version", "protocol", "event_type", "tcp_flags"),
    *("node_name", "drop_reason_desc", "interface", "reply"),
}  # fmt: skip
NOT_RECORDED = (
    "uuid", "source_ip_xlated", "http_status_code", "http_method", "http_path", "http_url",
    "http_header", "dns_query", "trace_id", "ip_trace_id", "node_labels", "encrypted",
    "experimental",
)  # fmt: skip
"""With ``ASKED``, all fields of Cilium 1.19's flow.proto."""


@pytest.mark.parametrize("name", [*NOT_RECORDED, "of_a_later_version"])
def test_no_field_is_ignored(name: str) -> None:
    assert set(_FIELDS) == ASKED
    with pytest.raises(FilterError, match=f"`{name}` asks for what is not recorded here"):
        flow_filter({name: ["1"]})


def test_lists_of_filters(batch: FlowBatch) -> None:
    def rows(*lists: list[dict[str, Any]]) -> list[int]:
        found: list[int] = Mask(flow_filters(*lists))(batch).nonzero()[0].tolist()
        return found

    either = [{"source_pod": ["shop/"]}, {"protocol": ["icmp"]}]
    assert rows([]) == [0, 1, 2]
    assert rows(either) == [0, 2]
    assert rows([], either) == [1]
    assert rows(either, [{"node_name": ["node-1"], "reply": [True]}]) == [0, 2]
    assert rows([{}], [{}]) == []


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"http_path": ["/x"]}, "`http_path` asks for what is not recorded"),
        ({"source_label": ["app=web,tier in (a"]}, "`app=web,tier in .a` is no label selector"),
        ({"source_label": ["app=*"]}, "is no label selector"),
        ({"source_identity": ["world"]}, "`identity` cannot be `world`"),
        ({"source_ip": ["here"]}, "`here` is no address"),
        ({"source_ip": "10.0.0.1"}, "`source_ip` is a list of values"),
        ({"source_port": ["http"]}, "`http` is no port"),
        ({"source_port": ["65536"]}, "`65536` is no port"),
        ({"protocol": ["quic"]}, "`protocol` cannot be `quic`"),
        ({"verdict": ["PERHAPS"]}, "`verdict` cannot be `PERHAPS`"),
        ({"event_type": [{"type": 1, "match_sub_type": True}]}, "sub types are not recorded"),
        ({"interface": [{"index": 2}]}, "`interface` needs a `name`"),
    ],
)
def test_what_cannot_be_answered_is_said(message: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FilterError, match=sentence):
        flow_filter(message)
