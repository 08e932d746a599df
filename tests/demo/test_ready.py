from __future__ import annotations

import socket

import pytest

from flowobs.cli.errors import CliError
from flowobs.demo import ready


def test_the_next_port_is_taken_where_one_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = ready.free_ports({"http": port, "listen": port})

    assert found["http"] > port
    assert found["listen"] > found["http"]


def test_waiting_ends_with_a_sentence() -> None:
    with pytest.raises(CliError, match="^agent did not answer within 0 s"):
        ready.wait("agent", lambda: False, lambda: None, 0)


def test_waiting_ends_when_there_is_nothing_to_wait_for() -> None:
    def check() -> None:
        raise CliError("agent ended")

    with pytest.raises(CliError, match="agent ended"):
        ready.wait("agent", lambda: False, check, 60)
