"""A new pod's first records wait for its name, and nothing else waits."""

from __future__ import annotations

from typing import Any

import pytest

from flowobs.agent import holdback
from flowobs.agent.holdback import VAIN_S, WAIT_S, Holdback
from flowobs.batch import Endpoints, FlowBatch, Strings
from tests.agent.test_enrich import ETH, NODE_IP, POD_A, VETH, WORLD, Bench
from tests.identity.fakes import pod

NEW = "10.0.0.99"


class Held:
    """A holdback over the real enricher, and a clock."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.now = 100.0
        self.expecting = True
        self.hold = Holdback(self.bench.enricher, lambda: self.expecting, clock=lambda: self.now)

    def see(self, *records: dict[str, Any]) -> list[str]:
        return sources(self.hold.enrich(self.bench.decoded(*records)))

    def release(self, everything: bool = False) -> list[str]:
        return [name for batch in self.hold.release(everything) for name in sources(batch)]

    def named(self, *more: str) -> None:
        """The API server tells of the new pod."""
        known = {POD_A: pod("a"), **{address: pod("new") for address in more}}
        self.bench.source.replace(known, 0)


def sources(batch: FlowBatch) -> list[str]:
    return [f"{name or '?'}:{port}" for name, port in zip(
        batch.strings("src_name"), batch["src_port"].tolist(), strict=True
    )]  # fmt: skip


def new(port: int, **more: Any) -> dict[str, Any]:
    return {"src": NEW, "dst": WORLD, "ifindex": VETH, "src_port": port, "time": 5} | more


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.mark.parametrize("address", [NEW, "2600:99::1"])
def test_a_new_pods_records_come_with_its_name_once_it_is_known(held: Held, address: str) -> None:
    known = {"src": POD_A, "dst": address, "ifindex": VETH, "src_port": 1}
    first = [new(port, src=address) for port in (7, 8)]
    assert held.see(first[0], known, first[1]) == ["a:1"], "what has a name does not wait"
    assert held.release() == []
    held.named(address)
    assert held.see(new(9, src=address)) == ["new:9"]
    assert held.release() == ["new:7", "new:8"]
    assert (held.hold.held, held.hold.named) == (2, 2)
    assert held.release(everything=True) == []


def test_news_between_two_that_wait_is_not_missed(held: Held) -> None:
    assert held.see(new(1)) == []
    held.named(NEW)
    assert held.see(new(2, src="10.0.0.98")) == []
    assert held.release() == ["new:1"]
    held.named(NEW, "10.0.0.98")
    assert held.release() == ["new:2"]


def test_nothing_waits_longer_than_it_may_nor_twice_in_vain(held: Held) -> None:
    assert held.see(new(1)) == []
    held.now += WAIT_S - 0.1
    assert held.release() == []
    held.now += 0.2
    assert held.release() == ["?:1"]
    assert held.see(new(2), new(3, src="10.0.0.98")) == ["?:2"], "of another address it may come"
    held.now += VAIN_S + 1
    assert held.see(new(4)) == []
    assert (held.hold.held, held.hold.named) == (3, 0)


def test_only_the_end_beside_an_interface_is_waited_for(held: Held) -> None:
    assert held.see(
        {"src": POD_A, "dst": NEW, "ifindex": VETH, "src_port": 1},  # its peer
        {"src": NEW, "dst": WORLD, "ifindex": ETH, "src_port": 2},  # in transit
        {"src": NEW, "dst": WORLD, "src_port": 3},  # an event of no interface
        {"src": WORLD, "dst": NODE_IP, "ifindex": ETH, "src_port": 4},
    ) == ["a:1", "?:2", "?:3", "?:4"]
    back = {"src": WORLD, "dst": NEW, "ifindex": VETH, "egress": True, "src_port": 5}
    assert held.see(back) == []


def test_nothing_waits_while_no_news_can_come(held: Held) -> None:
    held.expecting = False
    assert held.see(new(1)) == ["?:1"]


def test_all_of_it_goes_when_it_must(held: Held) -> None:
    held.see(new(1))
    held.see(new(2))
    assert held.release(everything=True) == ["?:1", "?:2"]
    held.bench.endpoints = Endpoints(Strings())
    assert held.see({"src": POD_A, "dst": WORLD, "src_port": 3}) == ["a:3"]


def test_what_waits_is_bounded(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdback, "MAX_ROWS", 3)
    assert held.see(new(1), new(2)) == []
    assert held.see(new(3), new(4)) == ["?:3", "?:4"]
    assert held.see(new(5)) == []
    held.named(NEW)
    assert held.release() == ["new:1", "new:2", "new:5"]
    assert held.see(new(6, src="10.0.0.98"), new(7, src="10.0.0.98")) == [], "there is room again"
