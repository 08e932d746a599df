"""docs/configuration.md names every variable that is read, file and port that is there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flowobs.agent.config import AgentConfig
from relay import cli as relay_cli
from relay.config import Config

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/configuration.md").read_text()
READ = re.compile(r"""environ(?:ment)?(?:\.get\(|\[)\s*"([A-Z_]+)"|"([A-Z_]+)" in os\.environ""")


def test_every_variable_is_on_the_page() -> None:
    sources = [p.read_text() for name in ("flowobs", "relay") for p in (ROOT / name).rglob("*.py")]
    found = {a or b for text in sources for a, b in READ.findall(text)}
    assert {"NO_COLOR", "STATE_DIRECTORY", "KUBERNETES_SERVICE_HOST"} <= found
    # for a child; to name a command; WSGI's
    other = {"BCC_KERNEL_SOURCE", "VIRTUAL_ENV", "PATH_INFO", "QUERY_STRING"}
    assert [name for name in sorted(found - other) if f"`{name}`" not in PAGE] == []


def test_the_ports_are_on_the_page() -> None:
    relay = Config("")
    for address in (*map(str, relay.listen), str(relay.http), AgentConfig().metrics):
        assert f"| {address.rpartition(':')[2]} |" in PAGE


@pytest.mark.parametrize("variable", ["FLOWOBS_RELAY_RETENTION", "FLOWOBS_RELAY_HTTP"])
def test_the_relays_options_can_be_in_the_environment(variable: str) -> None:
    result = CliRunner().invoke(relay_cli.main, [], env={variable: "nonsense", "HOME": "/tmp"})
    assert result.exit_code == 2
    assert "nonsense" in result.stderr


def test_an_option_wins_over_the_environment() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWOBS_RELAY_MAX_DISK", "1GB")
        context: click.Context = relay_cli.main.make_context("flowobs-relay", ["--max-disk=2GB"])
    assert context.params["max_disk"] == "2GB"
