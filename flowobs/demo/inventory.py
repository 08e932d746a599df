"""The demo's inventory file: who the addresses of its network are."""

from __future__ import annotations

from typing import Any

import yaml

from flowobs.demo import plan


def text() -> str:
    return yaml.safe_dump(document(), sort_keys=False)


def document() -> dict[str, Any]:
    return {
        "cluster": plan.CLUSTER,
        "nodes": [{"name": plan.NODE, "addresses": list(plan.NODE_ADDRESSES)}],
        "hosts": [
            {"name": host.name, "addresses": addresses(host)}
            for host in plan.HOSTS
            if host.kind == "host"
        ],
        "pods": [pod(host) for host in plan.PODS],
        "names": [{"name": plan.PARTNER, "addresses": [plan.PARTNER_ADDRESS]}],
    }


def pod(host: plan.Host) -> dict[str, Any]:
    kind, name = host.workload
    entry: dict[str, Any] = {
        "namespace": host.namespace,
        "name": host.name,
        "addresses": addresses(host),
        "workload": {"kind": kind, "name": name},
        "node": plan.NODE,
    }
    return entry | ({"service": host.service} if host.service else {})


def addresses(host: plan.Host) -> list[str]:
    return [host.v4, host.v6, host.link_local]
