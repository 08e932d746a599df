"""What ``flowobs up`` tells its relay and its agent."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from flowobs.cli.up import agent_command, relay_command, up

CLUSTER = ("--kubeconfig", __file__, "--cluster-name", "east")


def options(*words: str) -> dict[str, Any]:
    return up.make_context("up", list(words)).params


def told(command: list[str]) -> set[str]:
    wanted = ("--kubernetes", "--kubeconfig", "--cluster-name")
    return {word for word in command if word.startswith(wanted)}


def test_the_relay_watches_the_cluster() -> None:
    given = options(*CLUSTER)
    assert told(relay_command(given)) == {f"--kubernetes={__file__}", "--cluster-name=east"}
    assert told(agent_command(given)) == set()
    assert "--identity=relay" in agent_command(given)


def test_or_the_agent_does() -> None:
    given = options(*CLUSTER, "--identity", "kubernetes")
    assert told(relay_command(given)) == set()
    assert told(agent_command(given)) == {f"--kubeconfig={__file__}", "--cluster-name=east"}


@pytest.mark.parametrize("identity", ["host", "none"])
def test_nobody_would(identity: str) -> None:
    result = CliRunner().invoke(up, [*CLUSTER, "--identity", identity])
    assert result.exit_code == 2
    assert f"leave out --identity {identity}." in result.output
