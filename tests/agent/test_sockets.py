"""What sock_diag and /proc tell, against what the sockets themselves say."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from flowobs.agent import sockets
from flowobs.identity.cgroup_paths import find_mount
from tests.agent.netlab import cookie

pytestmark = pytest.mark.root


def test_our_own_sockets_are_found_with_their_process() -> None:
    mount, _ = find_mount()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(("::1", 0))
        accepted, _ = listener.accept()
        with accepted:
            found = sockets.owners(mount)
            mine = {cookie(sock) for sock in (listener, client, accepted, datagrams)}
    ours = found[np.isin(found["cookie"], list(mine))]
    assert set(ours["cookie"].tolist()) == mine
    assert set(ours["owner"]["pid"].tolist()) == {os.getpid()}
    comm = Path("/proc/self/comm").read_bytes().strip()
    assert {bytes(row).rstrip(b"\0") for row in ours["owner"]["comm"]} == {comm}


def test_bound_sockets_are_told_from_connected_ones() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        found = sockets.listing("/proc/self/ns/net", bound=True)
        ours = cookie(listener), cookie(receiver), cookie(client)
    tcp, udp = found.tcp["cookie"].tolist(), found.udp["cookie"].tolist()
    assert ours[0] in tcp and ours[1] in udp and ours[2] not in tcp
    assert bytes(10) + b"\xff\xff\x7f\0\0\1" in found.addresses


def test_our_namespace_is_among_those_of_processes() -> None:
    inode = Path("/proc/self/ns/net").stat().st_ino
    found = sockets.namespaces()
    assert inode in sockets.listings(found)
    assert sockets.listings({1: "/proc/0/ns/net"}) == {}  # gone
