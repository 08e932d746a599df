"""deploy/: what `kubectl apply -f deploy/` and the systemd units start does start, and reaches each
other.
"""

from __future__ import annotations

import configparser
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from flowobs.cli.agent import agent
from relay.cli import main as relay

DEPLOY = Path(__file__).parents[2] / "deploy"
NAMES = ("rbac.yaml", "relay.yaml", "agent.yaml")
OBJECTS = [o for name in NAMES for o in yaml.safe_load_all((DEPLOY / name).read_text())]


def find(kind: str, name: str) -> dict[str, Any]:
    (found,) = (o for o in OBJECTS if (o["kind"], o["metadata"]["name"]) == (kind, name))
    assert kind.startswith("Cluster") or found["metadata"]["namespace"] == "flowobs"
    return found


def container(kind: str, name: str) -> dict[str, Any]:
    pod = find(kind, name)["spec"]["template"]["spec"]
    (only,) = pod["containers"]
    mounted = {mount["name"] for mount in only["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    return dict(only)


def options(command: click.Command, args: list[str]) -> dict[str, Any]:
    """What the command makes of ``args``; click raises where it refuses one."""
    return command.make_context("x", list(args)).params


def unit(name: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOY / name)
    return dict(parser["Service"])


def test_kubectl_finds_every_manifest() -> None:
    assert sorted(path.name for path in DEPLOY.glob("*.yaml")) == sorted(NAMES)


@pytest.mark.parametrize("version", ["1.25", "1.37"])
@pytest.mark.parametrize("manifest", OBJECTS, ids=lambda o: f"{o['kind']}-{o['metadata']['name']}")
def test_an_api_server_knows_every_field(manifest: dict[str, Any], version: str) -> None:
    assert kubernetes_validate.validate(manifest, version, strict=True) == version
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest | {"hostNetwrk": True}, version, strict=True)


def test_the_relay_is_where_the_agents_look() -> None:
    service = find("Service", "flowobs-relay")["spec"]
    ports = {port["name"]: port["port"] for port in service["ports"]}
    told = options(agent, container("DaemonSet", "flowobs-agent")["args"][1:])
    assert told["relay"] == f"flowobs-relay.flowobs.svc:{ports['agents']}"
    deployed = find("Deployment", "flowobs-relay")["spec"]
    labels = deployed["template"]["metadata"]["labels"]
    assert service["selector"] == deployed["selector"]["matchLabels"] == labels
    listening = options(relay, container("Deployment", "flowobs-relay")["args"])
    assert listening["listen"] == (f"0.0.0.0:{ports['agents']}",)
    assert listening["http"] == f"0.0.0.0:{ports['http']}"
    assert told["insecure"] and listening["insecure"]  # both or none
    open_ports = {
        p["name"]: p["containerPort"] for p in container("Deployment", "flowobs-relay")["ports"]
    }
    assert open_ports == ports


def test_the_relay_may_watch_and_keeps_what_it_stores() -> None:
    deployed = find("Deployment", "flowobs-relay")["spec"]
    pod = deployed["template"]["spec"]
    find("ServiceAccount", pod["serviceAccountName"])
    find("ClusterRole", pod["serviceAccountName"])
    (claim,) = (v for v in pod["volumes"] if "persistentVolumeClaim" in v)
    find("PersistentVolumeClaim", claim["persistentVolumeClaim"]["claimName"])
    only = container("Deployment", "flowobs-relay")
    (mount,) = (m["mountPath"] for m in only["volumeMounts"] if m["name"] == claim["name"])
    assert options(relay, only["args"])["store"].startswith(f"chdb://{mount}/")
    assert (deployed["replicas"], deployed["strategy"]["type"]) == (1, "Recreate")


def test_the_agent_is_on_its_node_and_asks_nobody_else() -> None:
    pod = find("DaemonSet", "flowobs-agent")["spec"]["template"]["spec"]
    assert pod["hostNetwork"] and pod["hostPID"] and not pod["automountServiceAccountToken"]
    only = container("DaemonSet", "flowobs-agent")
    known = {f"FLOWOBS_AGENT_{param.name}".upper() for param in agent.params}
    assert {variable["name"] for variable in only["env"]} <= known
    told = options(agent, only["args"][1:])
    probe = only["livenessProbe"]["httpGet"]
    assert f"{probe['host']}:{probe['port']}" == told["metrics"]
    mounts = {m["name"]: m["mountPath"] for m in only["volumeMounts"]}
    assert mounts["cgroup"] == "/sys/fs/cgroup"
    assert str(told["spool_dir"]).startswith(f"{mounts['spool']}/")


@pytest.mark.parametrize(("name", "command"), [("relay", relay), ("agent", agent)])
def test_systemd_units_start_what_is_there(name: str, command: click.Command) -> None:
    service = unit(f"flowobs-{name}.service")
    program, *args = shlex.split(service["ExecStart"])
    assert program == f"/opt/flowobs/bin/{'flowobs' if name == 'agent' else 'flowobs-relay'}"
    told = options(command, args[1:] if name == "agent" else args)
    if name == "agent":
        folder = f"/var/lib/{service['StateDirectory']}/"
        assert str(told["spool_dir"]).startswith(folder)


def capabilities() -> list[str]:
    allowed = container("DaemonSet", "flowobs-agent")["securityContext"]["capabilities"]
    assert allowed["drop"] == ["ALL"]
    return list(allowed["add"])


def test_the_unit_has_the_daemonsets_capabilities() -> None:
    held = unit("flowobs-agent.service")["CapabilityBoundingSet"].split()
    assert held == [f"CAP_{name}" for name in capabilities()]


def confined(*words: str) -> subprocess.CompletedProcess[str]:
    """Python with nothing but these capabilities."""
    held = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities())])
    return subprocess.run(
        ["unshare", "--net", "setpriv", f"--bounding-set={held}", sys.executable, *words],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.root
@pytest.mark.bpf
def test_these_capabilities_are_enough() -> None:
    """Every program that is needed loads, and those that count are on their hooks."""
    done = confined("-m", "flowobs.cli.flowobs", "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    programs = json.loads(done.stdout)["programs"]
    assert [p["name"] for p in programs if p["needed"] and not p["loaded"]] == []
    assert all(p["attached"] for p in programs if p["required"])


@pytest.mark.root
def test_the_agent_may_give_way_and_hurry() -> None:
    """It keeps its priority where it may not take it back: tests/test_scheduling.py."""
    nice = "print(os.getpriority(os.PRIO_PROCESS, 0))"
    done = confined(
        "-c",
        f"import os; from flowobs.scheduling import Pace; pace = Pace(); {nice}; "
        f"pace.note(False); {nice}; pace.note(True); {nice}",
    )
    usual, low, hurried = map(int, done.stdout.split())
    assert low > usual == hurried
