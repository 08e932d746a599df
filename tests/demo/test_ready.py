from __future__ import annotations

import socket
from pathlib import Path

import pytest

from flowobs.cli.errors import CliError
from flowobs.cli.processes import Processes
from flowobs.demo import ready


def test_the_next_port_is_taken_where_one_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = ready.free_ports({"http": port, "listen": port})

    assert found["http"] > port
    assert found["listen"] > found["http"]


class Ended(Processes):
    def check(self) -> None:
        raise CliError("The agent has ended.")


def test_waiting_ends_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "START_S", 0)
    (tmp_path / "agent.log").write_text("no such probe\n")

    with pytest.raises(CliError, match=r"^agent did not answer within 0 s.*\n +no such probe"):
        ready.wait(Processes(tmp_path), "agent", lambda: False)


def test_waiting_ends_when_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="has ended"):
        ready.wait(Ended(tmp_path), "agent", lambda: False)
