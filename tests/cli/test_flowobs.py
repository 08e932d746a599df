"""The ``flowobs`` group: what it loads, and what it tells the agent."""

from __future__ import annotations

import socket
import subprocess
import sys
import types
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flowobs.agent.config import AgentConfig
from flowobs.agent.loader import LoadError
from flowobs.cli import up
from flowobs.cli.flowobs import flowobs
from flowobs.identity.inventory_file import InventoryError
from tests.cli.terminal import ENV
from tests.e2e.lab import free_port

FLOWOBS = [sys.executable, "-m", "flowobs.cli.flowobs"]


class ConfigError(ValueError):
    pass


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """In place of the agent: keeps the configuration, raises ``error``."""
    found = types.SimpleNamespace(config=None, error=None)

    def run(config: AgentConfig) -> None:
        found.config = config
        if found.error:
            raise found.error

    module: Any = types.ModuleType("flowobs.agent.agent")
    module.run, module.ConfigError = run, ConfigError
    monkeypatch.setitem(sys.modules, "flowobs.agent.agent", module)
    monkeypatch.setattr("flowobs.agent.agent", module, raising=False)
    return found


def invoke(*args: str, **env: str) -> Result:
    return CliRunner().invoke(flowobs, args, env=env, auto_envvar_prefix="FLOWOBS")


def test_without_options_the_agent_has_its_defaults(agent: types.SimpleNamespace) -> None:
    assert invoke("agent").exit_code == 0
    assert agent.config == AgentConfig()


def test_every_field_of_the_configuration_has_an_option(
    agent: types.SimpleNamespace, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=x"
    )
    subprocess.run([*command.split(), "-keyout", file, "-out", tmp_path / "cert"], check=True,
                   capture_output=True)  # fmt: skip
    file.write_text(file.read_text() + (tmp_path / "cert").read_text())
    words = (
        f"--relay=relay:4243 --loader=bcc --node=n1 --netns=lab --interface=eth* --interface=v* "
        f"--exclude-interface=lo --attach=tcx --cgroup={tmp_path} --inventory={file} "
        f"--identity=kubernetes --kubeconfig={file} --cluster-name=east --drain-interval=0.5 "
        f"--flow-entries=4096 --metrics=127.0.0.1:1 "
        f"--tls-ca={file} --tls-cert={file} --tls-key={file} --log-json "
        f"--spool-dir={tmp_path} --spool-mb=64"
    )
    assert invoke("agent", *words.split()).exit_code == 0
    assert agent.config == AgentConfig(
        relay="relay:4243",
        loader="bcc",
        node="n1",
        netns="lab",
        interfaces=("eth*", "v*"),
        exclude_interfaces=("lo",),
        attach="tcx",
        cgroup=str(tmp_path),
        inventory=file,
        identity="kubernetes",
        kubeconfig=file,
        spool_dir=tmp_path,
        spool_mb=64,
        cluster_name="east",
        drain_interval=0.5,
        flow_entries=4096,
        metrics="127.0.0.1:1",
        tls_ca=file,
        tls_cert=file,
        tls_key=file,
        log_json=True,
    )
    default = AgentConfig()
    same = {
        f.name for f in fields(default) if getattr(default, f.name) == getattr(agent.config, f.name)
    }
    assert same == {"insecure"}, "tls excludes it; the other fields have been set above"
    assert invoke("agent", "--relay", "relay:4243", "--insecure").exit_code == 0
    assert agent.config.insecure


def test_options_can_come_from_the_environment(agent: types.SimpleNamespace) -> None:
    env = {"FLOWOBS_AGENT_NODE": "n1", "FLOWOBS_AGENT_INTERFACE": "eth* veth*"}
    assert invoke("agent", **env).exit_code == 0
    assert (agent.config.node, agent.config.interfaces) == ("n1", ("eth*", "veth*"))


@pytest.mark.parametrize("relay", ["127.0.0.1:4243", "[::1]:4243", "localhost:1", "unix:///r.sock"])
def test_a_relay_on_this_machine_needs_no_tls(agent: types.SimpleNamespace, relay: str) -> None:
    assert invoke("agent", "--relay", relay).exit_code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--relay relay", "'relay' is no address, write it like"),
        ("--relay relay:0", "'relay:0' is no address"),
        ("--relay unix://x", "'unix://x' is no address"),
        ("--relay relay:4243", "is another machine: give --tls-ca, or --insecure"),
        ("--tls-cert FILE", "go together: give both"),
        ("--tls-cert FILE --tls-key FILE", "give its --tls-ca, too"),
        ("--tls-ca FILE --insecure", "exclude each other"),
        ("--relay relay:4243 --tls-ca FILE", "holds no certificate; give a PEM file"),
        ("--kubeconfig FILE", "--kubeconfig is for --identity kubernetes: give both"),
        ("--cluster-name east", "--cluster-name is for --identity kubernetes: give both"),
        ("--metrics 9465", "'9465' is no address"),
        ("--inventory /nowhere", "'/nowhere' does not exist"),
        ("--cgroup /nowhere", "'/nowhere' does not exist"),
        ("--drain-interval 0", "0.0 is not in the range"),
        ("--drain-interval often", "'often' is not a valid number"),
        ("--loader magic", "'magic' is not one of"),
    ],
)
def test_usage_errors(
    agent: types.SimpleNamespace, tmp_path: Path, words: str, sentence: str
) -> None:
    (tmp_path / "f").write_text("")
    result = invoke("agent", *words.replace("FILE", str(tmp_path / "f")).split())
    assert sentence in " ".join(result.stderr.split())
    assert result.exit_code == 2
    assert agent.config is None


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("there is no network namespace x"), 2, "there is no network namespace x"),
        (InventoryError("line 3: no address"), 2, "line 3: no address"),
        (LoadError("loading probes needs root"), 1, "Error: loading probes needs root"),
        (OSError(98, "Address in use"), 1, "Error: Address in use"),
        (OSError(2, "No such file", "/ca.pem"), 1, "Error: /ca.pem: No such file"),
    ],
)
def test_what_ends_the_agent(
    agent: types.SimpleNamespace, error: Exception, code: int, said: str
) -> None:
    agent.error = error
    result = invoke("agent")
    assert result.exit_code == code
    assert said in result.stderr
    assert "internal error" not in result.stderr


def test_the_groups_help_loads_no_command() -> None:
    program = (
        "import sys; from flowobs.cli.flowobs import flowobs\n"
        "flowobs(['--help'], standalone_mode=False)\n"
        "print([m for m in sys.modules if m.startswith(('flowobs.agent', 'flowobs.demo'))])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], env=ENV, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-1] == "[]"
    for name in ("up", "agent", "doctor", "demo"):
        assert f"\n  {name} " in found.stdout


def test_a_part_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flowobs.demo", None)
    monkeypatch.delitem(sys.modules, "flowobs.demo.cli", raising=False)
    result = invoke("demo")
    assert result.stderr.endswith(": 'demo' is not part of this installation.\n")
    assert result.exit_code == 1


def test_version_and_unknown_command() -> None:
    assert invoke("--version").stdout.startswith("flowobs 0.")
    assert invoke("upp").exit_code == 2


# up


def test_up_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["/opt/bin/flowobs", "up", "--store", "chdb:///my store"])
    result = invoke("up")
    assert "needs root: sudo /opt/bin/flowobs up --store 'chdb:///my store'" in result.stderr
    assert result.exit_code == 1


def test_up_names_the_relays_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(up, "find_spec", lambda name: None if name == "chdb" else object())
    result = invoke("up")
    assert "not installed (chdb):" in result.stderr
    assert "-m pip install 'flowobs[relay]'" in result.stderr


@pytest.mark.parametrize("option", ["--http", "--listen", "--metrics"])
def test_up_says_which_port_is_taken(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(up, "find_spec", lambda name: object())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        free = {name: f"127.0.0.1:{free_port()}" for name in ("--http", "--listen", "--metrics")}
        words = [f"{name}={text}" for name, text in (free | {option: address}).items()]
        result = invoke("up", *words)
    assert f"Cannot listen on {address} (Address already in use)." in result.stderr
    assert f"give another {option}" in result.stderr


def test_ups_commands_are_ones_the_parts_understand(agent: types.SimpleNamespace) -> None:
    given = {
        "http": "0.0.0.0:8080",
        "listen": "[::]:4243",
        "store": "chdb:///x",
        "retention": None,
        "max_disk": "20GB",
        "insecure": True,
        "loader": "core",
        "identity": "none",
        "metrics": "127.0.0.1:9",
        "interface": ("eth*",),
        "exclude_interface": ("lo",),
        "inventory": None,
        "kubeconfig": None,
        "cluster_name": "",
    }
    assert up.relay_command(given)[3:] == [
        "relay",
        "--http=0.0.0.0:8080",
        "--listen=[::]:4243",
        "--store=chdb:///x",
        "--max-disk=20GB",
        "--insecure",
    ]
    assert up.web_url("0.0.0.0:8080") == "http://127.0.0.1:8080"
    assert invoke(*up.agent_command(given)[4:]).exit_code == 0
    assert agent.config == AgentConfig(
        relay="[::1]:4243",
        loader="core",
        identity="none",
        metrics="127.0.0.1:9",
        interfaces=("eth*",),
        exclude_interfaces=("lo",),
    )
