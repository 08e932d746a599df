"""What is said of an identity, and why it is believed or not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowobs.batch import Endpoint
from flowobs.identity import Resolver, Socket
from flowobs.identity.source import Claim
from flowobs.identity.whois import Asked, Explainer, WhoisError, document, parse
from flowobs.kubernetes.source import TableSource
from flowobs.schema import EndpointKind
from tests.identity.fakes import FakeSource, ip, pod
from tests.kubernetes import things
from tests.kubernetes.test_table import START, Clock

SHARED = "it had the address at that time; its sockets are told apart by their owners"
NOW = 1_800_000_000 * 10**9
S = 10**9


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("10.0.0.1", Asked(ip("10.0.0.1"), None, None, "", NOW)),
        ("[fd00::1]", Asked(ip("fd00::1"), None, None, "", NOW)),
        ("::ffff:10.0.0.1", Asked(ip("10.0.0.1"), None, None, "", NOW)),
        ("shop/web-0", Asked(None, None, "shop", "web-0", NOW)),
        (" web-0 ", Asked(None, None, None, "web-0", NOW)),
        ("4711", Asked(None, 4711, None, "", NOW)),
        ("0xff", Asked(None, 255, None, "", NOW)),
        ("0xyz", Asked(None, None, None, "0xyz", NOW)),
        ("0", Asked(None, None, None, "0", NOW)),
    ],
)
def test_questions(text: str, asked: Asked) -> None:
    assert parse(text, None, NOW) == asked


def test_the_time_of_a_question() -> None:
    assert parse("a", "5m", NOW).at_ns == NOW - 300 * S
    assert parse("a", "1970-01-01T00:00:01Z", NOW).at_ns == S


NO_ADDRESS = ["300.1.2.3", "10.0.0.0/8", "10.1.2", "10.1.2.3:80", "fd00::/64", "fd00::1::2"]


@pytest.mark.parametrize("text", ["", " ", "a/b/c", "/a", "a/", "x" * 700, *NO_ADDRESS])
def test_no_questions(text: str) -> None:
    with pytest.raises(WhoisError, match=r"; (give|write) "):
        parse(text, None)
    with pytest.raises(WhoisError, match="`at` cannot be `noon`; write"):
        parse("a", "noon")


@given(st.text())
def test_any_text_is_a_question_or_an_error(text: str) -> None:
    for at in (None, text):
        try:
            parse(text, at)
        except WhoisError as error:
            assert "; " in str(error)


def said(claims: list[Claim]) -> list[tuple[str, str, bool, str]]:
    return [(c.source, c.endpoint.name if c.endpoint else "", c.accepted, c.reason) for c in claims]


def explained(resolver: Resolver, text: str, at_ns: int = NOW) -> list[tuple[str, str, bool, str]]:
    asked = parse(text, None, at_ns)
    return said(Explainer(resolver, lambda cookie: None)(asked))


def test_an_addresss_holders_and_the_one_at_that_time() -> None:
    clock = Clock()
    first = clock.put("pods", things.pod("a", "10.0.0.1"))
    clock.remove(first, after=5)
    ended = clock.seconds
    clock.put("pods", things.pod("b", "10.0.0.1", started=ended + 2), after=4)
    inventory = FakeSource.of({"10.0.0.0/8": Endpoint(name="pods", identity_source="inventory")})
    resolver = Resolver([TableSource(clock.table), inventory])
    known = "kubernetes knows it and is asked first"
    assert explained(resolver, "10.0.0.1", round(clock.seconds * S)) == [
        ("kubernetes", "b", True, "it had the address at that time"),
        ("kubernetes", "a", False, "no longer: it had ended by then"),
        ("inventory", "pods", False, known),
    ]
    assert explained(resolver, "10.0.0.1", (START + 50) * S)[0][:3] == ("kubernetes", "a", True)
    between = explained(resolver, "10.0.0.1", round((ended + 1) * S))
    assert between == [
        ("inventory", "pods", True, SHARED),
        ("kubernetes", "a", False, "no longer: it had ended by then"),
        ("kubernetes", "b", False, "not yet: it has it only since later"),
    ]  # fmt: skip
    assert explained(resolver, "shop/a", (START + 50) * S)[0] == (
        "kubernetes", "a", True, "it had the address at that time",
    )  # fmt: skip
    assert explained(resolver, "other/a") == []


def test_two_at_once_are_both_shown_and_neither_believed() -> None:
    clock = Clock()
    clock.put("pods", things.pod("a", "10.0.0.1"))
    clock.put("pods", things.pod("b", "10.0.0.1", started=START + 101.5), after=2)
    found = explained(Resolver([TableSource(clock.table)]), "10.0.0.1", round(clock.seconds * S))
    two = "two had it at the same time, so neither is named"
    assert found[1:] == [("kubernetes", "a", False, two), ("kubernetes", "b", False, two)]
    assert found[0][2:] == (True, "no source knows it: judged by its range alone")


def test_a_node_goes_before_a_service_and_pods_on_its_network_have_no_address() -> None:
    clock = Clock()
    clock.put("services", things.service("lb", "10.96.0.1", ingress=["192.0.2.1"]))
    clock.put("nodes", things.node("node-1", "192.0.2.1"))
    clock.put("pods", things.pod("proxy", "192.0.2.1", host_network=True))
    resolver = Resolver([TableSource(clock.table)])
    now = round(clock.seconds * S)
    assert explained(resolver, "192.0.2.1", now) == [
        ("kubernetes", "node-1", True, SHARED),
        ("kubernetes", "lb", False, "a node goes before a service"),
    ]  # fmt: skip
    reason = "it has its node's address: its sockets' cgroup tells"
    assert explained(resolver, "proxy", now) == [("kubernetes", "proxy", True, reason)]


def test_the_smallest_range_goes_first() -> None:
    source = FakeSource.of({"10.0.0.1": pod("a"), "10.0.0.0/8": pod("all"), "0.0.0.0/0": pod("w")})
    found = explained(Resolver([source]), "10.0.0.1")
    assert [(name, accepted) for _, name, accepted, _ in found] == [
        ("a", True), ("all", False), ("w", False),
    ]  # fmt: skip
    assert "goes before it" in found[1][3]
    ends = Explainer(Resolver([source]), lambda cookie: None)(parse("all", None, NOW))
    assert {c.address for c in ends} == {ip("10.0.0.0")}, "a range is shown by its first address"


def test_a_socket_is_whose_its_cgroup_says() -> None:
    socket = Socket(5, 77, "nginx")
    unit = Endpoint(EndpointKind.host, name="n1", workload="nginx.service")
    first, second = FakeSource("kubernetes"), FakeSource("host")
    first.sockets, second.sockets = {socket: pod("a")}, {socket: unit}
    where = "its process is nginx (77)"
    explain = Explainer(
        Resolver([first, second]), lambda cookie: (socket, where) if cookie == 9 else None
    )
    assert said(explain(parse("9", None))) == [
        ("kubernetes", "a", True, where),
        ("host", "n1", False, "asked later than kubernetes"),
    ]
    assert explain(parse("8", None)) == []


def test_the_answer_as_json() -> None:
    asked = parse("10.0.0.1", None, NOW)
    claim = Claim("inventory", ip("10.0.0.1"), pod("a"), 5 * S, 6 * S, False, "because")
    assert document("10.0.0.1", asked, [claim])["claims"] == [
        {
            "accepted": False, "source": "inventory", "address": "10.0.0.1", "kind": "pod",
            "cluster": "demo", "namespace": "shop", "name": "a",
            "since": "1970-01-01T00:00:05.000000000Z", "until": "1970-01-01T00:00:06.000000000Z",
            "reason": "because",
        }
    ]  # fmt: skip
