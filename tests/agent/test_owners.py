"""Owners of sockets: what is asked, what is kept, what is given up."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
import pytest

from flowobs.agent.owners import SOCKET_OWNER, OwnerTable, command_text
from flowobs.agent.records import OWNER
from flowobs.batch import Array, Endpoints, FlowBatch, Strings


class Kernel:
    """The owners map, the iterator and a clock."""

    def __init__(self) -> None:
        self.map: dict[int, tuple[int, int, bytes]] = {}
        self.open: dict[int, tuple[int, int, bytes]] = {}
        self.inherited: set[int] = set()
        self.asked: list[list[int]] = []
        self.now = 0.0
        self.dump_s = 0.0

    def lookup(self, cookies: Array) -> tuple[Array, Array]:
        self.asked.append(cookies.tolist())
        found = np.array([c in self.map for c in cookies.tolist()], np.bool_)
        owners = np.zeros(len(cookies), OWNER.dtype)
        for i in np.flatnonzero(found):
            _put(owners[i], self.map[int(cookies[i])])
            owners[i]["inherited"] = int(cookies[i]) in self.inherited
        return found, owners

    def sockets(self) -> Array:
        self.now += self.dump_s
        rows = np.zeros(len(self.open), SOCKET_OWNER)
        for row, (cookie, owner) in zip(rows, self.open.items(), strict=True):
            row["cookie"] = cookie
            _put(row["owner"], owner)
        return rows

    def table(self, capacity: int = 64, bound: Any = None) -> OwnerTable:
        clock = {"clock": lambda: self.now, "cost": lambda: self.now}
        return OwnerTable(self.lookup, self.sockets, capacity=capacity, bound=bound, **clock)


def _put(row: Array, owner: tuple[int, int, bytes]) -> None:
    row["pid"], row["cgroup"], comm = owner
    row["comm"] = np.frombuffer(comm.ljust(16, b"\0"), np.uint8)


def batch(src: list[int], dst: list[int] | None = None) -> FlowBatch:
    flows = FlowBatch.zeros(len(src), Endpoints(Strings()))
    flows.columns["src_cookie"][:] = src
    flows.columns["dst_cookie"][:] = dst or [0] * len(src)
    return flows


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def test_both_ends_get_their_owner(kernel: Kernel) -> None:
    kernel.map = {11: (5, 77, b"curl"), 12: (6, 78, b"nginx")}
    flows = batch([11, 0, 11, 13], [12, 12, 0, 0])
    rows = kernel.table().fill(flows)
    assert flows.strings("src_process") == ["curl", "", "curl", ""]
    assert flows.strings("dst_process") == ["nginx", "nginx", "", ""]
    assert flows["src_pid"].tolist() == [5, 0, 5, 0]
    assert flows["dst_cgroup"].tolist() == [78, 78, 0, 0]
    assert (rows != 0).tolist() == [[True, False, True, False], [True, True, False, False]]


def test_a_cookie_is_asked_for_once(kernel: Kernel) -> None:
    kernel.map = {11: (5, 77, b"curl")}
    table = kernel.table()
    table.fill(batch([11, 11, 11]))
    kernel.map.clear()
    flows = batch([11])
    table.fill(flows)
    assert kernel.asked == [[11]]
    assert flows.strings("src_process") == ["curl"]


def test_sockets_of_one_process_have_one_number(kernel: Kernel) -> None:
    kernel.map = {11: (5, 77, b"curl"), 12: (6, 78, b"nginx"), 13: (5, 77, b"curl")}
    table = kernel.table()
    ((curl, nginx), _) = table.fill(batch([11, 12])).tolist()
    ((again,), _) = table.fill(batch([13])).tolist()
    assert again == curl != nginx
    assert [(table.pid(n), table.command(n)) for n in (0, curl, nginx)] == [
        (0, ""),
        (5, "curl"),
        (6, "nginx"),
    ]


def test_a_listener_that_finds_no_room_takes_nobodys_place(kernel: Kernel) -> None:
    class Listeners:
        def find(self, proto: Array, ip: Array, port: Array) -> Array:
            return port.astype(np.uint64)

    kernel.map = {c: (c, 77, b"p%d" % c) for c in (*range(1, 9), 80)}
    table = kernel.table(capacity=8, bound=Listeners())
    table.fill(batch(list(range(1, 8))))
    flows = batch([7, 6], [999, 5])
    flows.columns["proto"][:] = socket.IPPROTO_TCP
    flows.columns["dst_port"][:] = 80
    numbers = table.fill(flows)
    assert flows.strings("src_process") == ["p7", "p6"]
    assert flows.strings("dst_process") == ["p80", "p5"]
    assert [[table.pid(n) for n in side] for side in numbers.tolist()] == [[7, 6], [80, 5]]


def test_what_the_packet_told_stays(kernel: Kernel) -> None:
    kernel.map = {11: (5, 77, b"curl")}
    flows = batch([11])
    flows.columns["src_pid"][:], flows.columns["src_cgroup"][:] = 6, 78
    kernel.table().fill(flows)
    assert (flows["src_pid"][0], flows["src_cgroup"][0]) == (6, 78)


def test_older_sockets_come_from_the_iterator_once_a_batch(kernel: Kernel) -> None:
    kernel.open = {20: (8, 79, b"sshd"), 3: (1, 1, b"other"), 99: (2, 2, b"last")}
    table = kernel.table()
    flows = batch([20, 21], [22, 20])
    table.fill(flows)
    assert flows.strings("src_process") == ["sshd", ""]
    assert flows.strings("dst_process") == ["", "sshd"]
    assert table.dumps == 1


def test_an_unknown_owner_is_looked_for_three_times(kernel: Kernel) -> None:
    table = kernel.table()
    for _ in range(100):
        table.fill(batch([30]))
        kernel.now += 0.25
    assert len(kernel.asked) == 3
    assert (table.dumps, table.unknown) == (3, 1)


def test_a_socket_that_is_accepted_late_gets_its_owner(kernel: Kernel) -> None:
    table = kernel.table()
    table.fill(batch([30]))
    kernel.open = {30: (8, 79, b"late")}
    kernel.now = 0.6
    flows = batch([30])
    table.fill(flows)
    assert flows.strings("src_process") == ["late"]
    assert table.unknown == 0


def test_a_listeners_owner_will_do_until_the_one_who_accepted_is_known(kernel: Kernel) -> None:
    kernel.map = {30: (8, 79, b"master")}
    kernel.inherited = {30}
    table = kernel.table()
    flows = batch([30])
    table.fill(flows)
    assert flows.strings("src_process") == ["master"]
    kernel.open = {30: (9, 79, b"worker")}
    kernel.now = 0.6
    flows = batch([30])
    table.fill(flows)
    assert (flows.strings("src_process"), flows["src_pid"].tolist()) == (["worker"], [9])


def test_who_closes_what_it_accepted_is_known_before_the_iterator_is_asked_again(
    kernel: Kernel,
) -> None:
    kernel.map = {30: (8, 79, b"master")}
    kernel.inherited = {30}
    table = kernel.table()
    table.fill(batch([99]))
    table.fill(flows := batch([30]))
    assert flows["src_pid"].tolist() == [8]
    kernel.map, kernel.inherited = {30: (9, 79, b"worker")}, set()
    kernel.now = 0.1
    table.fill(flows := batch([30]))
    assert (table.dumps, flows["src_pid"].tolist()) == (1, [9])


def test_a_listeners_owner_stays_where_the_socket_is_gone(kernel: Kernel) -> None:
    kernel.map = {30: (8, 79, b"master")}
    kernel.inherited = {30}
    table = kernel.table()
    for _ in range(20):
        table.fill(flows := batch([30]))
        assert flows.strings("src_process") == ["master"]
        kernel.now += 0.5
    assert (table.unknown, len(kernel.asked)) == (0, 3)


def received(cookies: list[int]) -> FlowBatch:
    flows = batch([0] * len(cookies), cookies)
    flows.columns["proto"][:] = socket.IPPROTO_UDP
    return flows


def test_who_receives_is_looked_for_once(kernel: Kernel) -> None:
    kernel.map = {30: (8, 79, b"dnsmasq")}
    kernel.open = {30: (8, 79, b"dnsmasq")}
    table = kernel.table()
    for _ in range(10):
        table.fill(flows := received([30, 30]))
        assert flows["dst_pid"].tolist() == [8, 8]
        kernel.now += 1
    assert (table.dumps, kernel.asked) == (1, [[30]])


@pytest.mark.parametrize("holder", [(9, 79, b"dnsmasq"), (8, 79, b"execd")], ids=["fork", "exec"])
def test_a_socket_handed_on_is_who_holds_its(
    kernel: Kernel, holder: tuple[int, int, bytes]
) -> None:
    kernel.map = {30: (8, 79, b"dnsmasq")}
    kernel.open = {30: holder}
    table = kernel.table()
    table.fill(flows := received([30]))
    assert (flows["dst_pid"][0], flows.strings("dst_process")) == (holder[0], [holder[2].decode()])


def test_a_socket_of_several_stays_with_who_made_it(kernel: Kernel) -> None:
    master, worker = (8, 79, b"master"), (9, 79, b"worker")
    kernel.map = {30: master}

    def sockets() -> Array:
        rows = np.zeros(2, SOCKET_OWNER)
        rows["cookie"] = 30
        for row, owner in zip(rows, (master, worker), strict=True):
            _put(row["owner"], owner)
        return rows

    kernel.sockets = sockets  # type: ignore[method-assign]
    table = kernel.table()
    table.fill(flows := received([30]))
    assert flows["dst_pid"].tolist() == [8]


class Listeners:
    """The socket that listens at port 80."""

    def find(self, proto: Array, ip: Array, port: Array) -> Array:
        return np.where(port == 80, 80, 0).astype(np.uint64)


SYSTEMD, SERVICE = (1, 70, b"systemd"), (9, 79, b"rpcbind")


def activated(kernel: Kernel, cookie: int) -> None:
    """A socket that systemd made and holds for a service."""
    kernel.map[cookie] = SYSTEMD

    def sockets() -> Array:
        rows = np.zeros(2, SOCKET_OWNER)
        rows["cookie"] = cookie
        for row, owner in zip(rows, (SYSTEMD, SERVICE), strict=True):
            _put(row["owner"], owner)
        return rows

    kernel.sockets = sockets  # type: ignore[method-assign]


def test_a_socket_that_is_held_for_a_service_is_the_services(kernel: Kernel) -> None:
    activated(kernel, 30)
    table = kernel.table()
    for _ in range(3):
        table.fill(flows := received([30]))
        assert (flows["dst_pid"].tolist(), flows["dst_cgroup"].tolist()) == ([9], [79])
        table.fill(batch([99]))  # the iterator again
        kernel.now += 1
    assert table.dumps == 3


def test_what_is_accepted_of_such_a_listener_is_the_services(kernel: Kernel) -> None:
    activated(kernel, 80)
    kernel.inherited = {30, 31}
    kernel.map |= dict.fromkeys(kernel.inherited, SYSTEMD)
    table = kernel.table(bound=Listeners())
    for cookie in (30, 31):  # the first makes the listener known
        flows = batch([0], [cookie])
        flows.columns["proto"][:], flows.columns["dst_port"][:] = socket.IPPROTO_TCP, 80
        table.fill(flows)
        kernel.now += 0.6
    assert flows.strings("dst_process") == ["rpcbind"]


def test_a_resting_iterator_is_asked_later_who_holds_it(kernel: Kernel) -> None:
    kernel.map = {30: (8, 79, b"parent")}
    kernel.open = {30: (9, 79, b"child")}
    table = kernel.table()
    table.fill(batch([99]))
    for kernel.now, pid in ((0.1, 8), (0.6, 9)):
        table.fill(flows := received([30]))
        assert flows["dst_pid"].tolist() == [pid]


def test_a_listener_whose_maker_has_ended_is_who_listens_now(kernel: Kernel) -> None:
    """A daemon that listened before it forked; what it accepted was closed at once."""
    parent, child = (8, 79, b"nginx"), (9, 79, b"nginx")
    kernel.map = {80: parent, 30: parent, 31: parent, 32: parent}
    kernel.inherited = {30, 31, 32}
    kernel.open = {80: child}
    table = kernel.table(bound=Listeners())
    for cookie in (30, 31, 32):
        flows = batch([0], [cookie])
        flows.columns["proto"][:], flows.columns["dst_port"][:] = socket.IPPROTO_TCP, 80
        table.fill(flows)
        kernel.now += 0.6
    assert flows["dst_pid"].tolist() == [9]
    flows.columns["dst_port"][:], flows.columns["dst_pid"][:] = 81, 0  # nobody listens any more
    table.fill(flows)
    assert flows["dst_pid"].tolist() == [8]


def test_the_iterator_takes_no_more_than_a_tenth_of_the_time(kernel: Kernel) -> None:
    kernel.dump_s = 0.3
    table = kernel.table()
    for cookie in range(1, 101):
        table.fill(batch([cookie]))
        kernel.now += 0.1
    assert 2 <= table.dumps <= 5


def test_a_question_to_the_resting_iterator_is_no_try(kernel: Kernel) -> None:
    kernel.open = {21: (5, 77, b"sshd")}
    table = kernel.table()
    table.fill(batch([99]))
    for kernel.now in (0.1, 0.2, 0.3):
        flows = batch([21])
        table.fill(flows)
        assert flows["src_pid"].tolist() == [0]
    kernel.now = 0.5
    table.fill(flows)
    assert flows["src_pid"].tolist() == [5]
    assert table.dumps == 2


def test_it_keeps_the_sockets_seen_last(kernel: Kernel) -> None:
    kernel.map = {c: (c, 1, b"p%d" % c) for c in range(1, 1000)}
    table = kernel.table(capacity=8)
    for cookie in range(2, 1000):
        flows = batch([1, cookie])
        table.fill(flows)
        assert flows.strings("src_process") == ["p1", f"p{cookie}"]
    assert sum(1 in asked for asked in kernel.asked) == 1
    assert table.generation > 50


def test_processes_that_rename_themselves_do_not_add_up(kernel: Kernel) -> None:
    mine = list(range(1, 33))
    kernel.map = {c: (c, 1, b"p") for c in mine}
    table = kernel.table(capacity=64)
    table.fill(batch(mine))
    for n in range(30):
        kernel.open = {c: (c, 1, b"p%d" % n) for c in mine}
        table.fill(batch([1000 + n]))
        assert table.fill(batch(mine)).max() <= 64 + 32
        kernel.now += 1


def test_more_sockets_than_it_can_hold_are_left_without_owner(kernel: Kernel) -> None:
    kernel.map = {c: (c, 1, b"x") for c in range(1, 100)}
    flows = batch(list(range(1, 100)))
    kernel.table(capacity=8).fill(flows)
    assert np.count_nonzero(flows["src_pid"]) == 8


def test_a_new_table_of_strings_gets_the_names_again(kernel: Kernel) -> None:
    kernel.map = {11: (5, 77, b"curl")}
    table = kernel.table()
    table.fill(batch([11]))
    flows = batch([11])
    flows.endpoints.strings.id("something else")
    table.fill(flows)
    assert flows.strings("src_process") == ["curl"]


def test_an_empty_batch_asks_nothing(kernel: Kernel) -> None:
    assert kernel.table().fill(batch([])).shape == (2, 0)
    assert kernel.asked == []


def test_command_names_are_safe_to_print() -> None:
    assert command_text(b"nginx\0garbage") == "nginx"
    assert command_text(b"\x1b[31mred\xff\0") == "?[31mred\ufffd"
