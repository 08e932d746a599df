"""Who gets what is sent to an address and port."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from flowobs.agent.bound import BoundSockets
from flowobs.agent.sockets import SOCKET, Listing

TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
HERE, POD, OTHER = 1, 2, 3
LISTEN, CLOSE = 10, 7


def raw(address: str) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address)


def wide(address: str) -> bytes:
    return raw(address) if ":" in address else bytes(10) + b"\xff\xff" + raw(address)


def bound(address: str, port: int, cookie: int, state: int = CLOSE) -> np.ndarray:
    row = np.zeros(1, SOCKET)
    row["family"] = socket.AF_INET6 if ":" in address else socket.AF_INET
    row["state"], row["port"], row["cookie"] = state, port, cookie
    row["address"] = np.frombuffer(raw(address).ljust(16, b"\0"), np.uint8)
    return row


class Machine:
    """Namespaces that change, and a clock."""

    def __init__(self) -> None:
        self.found: dict[int, Listing] = {}
        self.links: object = object()
        self.now = 0.0
        self.takes = 0.0
        self.table = BoundSockets(
            self.listings,
            lambda: self.links,
            netns=HERE,
            clock=lambda: self.now,
            cost=lambda: self.now,
        )

    def listings(self) -> dict[int, Listing]:
        self.now += self.takes
        return self.found

    def put(self, inode: int, addresses: str, *udp: np.ndarray, tcp: np.ndarray | None = None):
        none = np.zeros(0, SOCKET)
        self.found[inode] = Listing(
            frozenset(map(wide, addresses.split())),
            none if tcp is None else tcp,
            np.concatenate([none, *udp]),
        )

    def find(self, address: str, port: int, proto: int = UDP) -> int:
        ip = np.frombuffer(wide(address), np.uint8).reshape(1, 16)
        found = self.table.find(np.array([proto], np.uint8), ip, np.array([port], np.uint16))
        return int(found[0])


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_one_address_goes_before_all_and_ipv4_before_both(machine: Machine) -> None:
    machine.put(
        POD,
        "10.0.0.1 10.0.0.2 fd00::1",
        bound("0.0.0.0", 53, 4),
        bound("::", 53, 6),
        bound("10.0.0.2", 53, 2),
        bound("::", 54, 7),
    )
    ends = {a: machine.find(a, 53) for a in ("10.0.0.1", "10.0.0.2", "fd00::1")}
    assert ends == {"10.0.0.1": 4, "10.0.0.2": 2, "fd00::1": 6}
    assert (machine.find("10.0.0.1", 54), machine.find("10.0.0.9", 53)) == (7, 0)
    assert machine.find("10.0.0.1", 53, TCP) == 0


def test_listeners_are_found_too(machine: Machine) -> None:
    machine.put(POD, "10.0.0.1", tcp=bound("0.0.0.0", 80, 8, LISTEN))
    assert (machine.find("10.0.0.1", 80, TCP), machine.find("10.0.0.1", 80)) == (8, 0)


def test_an_address_of_two_namespaces_is_nobodys_and_loopback_is_ours(machine: Machine) -> None:
    machine.put(HERE, "127.0.0.1 10.0.0.1", bound("0.0.0.0", 53, 1))
    machine.put(POD, "127.0.0.1 10.0.0.2", bound("0.0.0.0", 53, 2))
    machine.put(OTHER, "10.0.0.2", bound("0.0.0.0", 53, 3))
    ends = [machine.find(a, 53) for a in ("127.0.0.1", "10.0.0.1", "10.0.0.2")]
    assert ends == [1, 1, 0]


def test_a_new_socket_is_found_and_a_missing_one_given_up(machine: Machine) -> None:
    machine.put(POD, "10.0.0.1")
    for _ in range(10):
        assert machine.find("10.0.0.1", 53) == 0
        assert machine.find("192.0.2.1", 53) == 0  # not of this machine: no reason to look
        machine.now += 1
    assert machine.table.readings == 1 + 3  # the first one told which addresses are ours
    machine.put(POD, "10.0.0.1", bound("10.0.0.1", 514, 5))
    assert machine.find("10.0.0.1", 514) == 5


def test_new_interfaces_may_have_new_addresses(machine: Machine) -> None:
    machine.put(POD, "10.0.0.1")
    assert machine.find("10.0.0.2", 53) == 0
    machine.put(OTHER, "10.0.0.2", bound("0.0.0.0", 53, 2))
    machine.now += 1
    assert machine.find("10.0.0.2", 53) == 0
    machine.links = object()
    assert machine.find("10.0.0.2", 53) == 2


def test_listing_rests_a_hundred_times_as_long_as_it_took(machine: Machine) -> None:
    machine.put(POD, "10.0.0.1")
    machine.takes = 0.1
    for _ in range(300):
        machine.links = object()
        machine.find("10.0.0.1", 53)
        machine.now += 0.1
    assert machine.table.readings == 3


def test_a_kernel_that_lists_no_sockets_is_asked_once(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> dict[int, Listing]:
        raise OSError(2, "the kernel refused a list: No such file or directory")

    machine.table = BoundSockets(refuse, object, netns=HERE, clock=lambda: machine.now)
    for _ in range(5):
        assert machine.find("10.0.0.1", 53) == 0
        machine.now += 10
    assert [r.message.split(":")[0] for r in caplog.records] == [
        "sockets that only receive have no owner"
    ]
