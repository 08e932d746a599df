"""Kubernetes objects for tests, as the API would show them."""

from __future__ import annotations

import time
from typing import Any

Thing = dict[str, Any]
CONTAINER = "0123456789abcdef" * 4


def stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def pod(
    name: str,
    *addresses: str,
    namespace: str = "shop",
    node: str = "node-1",
    phase: str = "Running",
    started: float = 1_700_000_000,
    labels: dict[str, str] | None = None,
    owner: tuple[str, str] | None = None,
    host_ips: tuple[str, ...] = ("192.0.2.1",),
    host_network: bool = False,
    containers: dict[str, str] | None = None,
    uid: str | None = None,
    annotations: dict[str, str] | None = None,
) -> Thing:
    owners = [_owner(*owner)] if owner else []
    meta: Thing = {"name": name, "namespace": namespace, "labels": labels or {"app": name}}
    meta |= {"ownerReferences": owners, "creationTimestamp": stamp(started)}
    if uid:
        meta["uid"] = uid
    if annotations:
        meta["annotations"] = annotations
    status: Thing = {"phase": phase, "hostIP": host_ips[0], "startTime": stamp(started)}
    status["hostIPs"] = [{"ip": ip} for ip in host_ips]
    if addresses:
        status |= {"podIP": addresses[0], "podIPs": [{"ip": ip} for ip in addresses]}
    status["containerStatuses"] = [
        {"name": n, "containerID": f"containerd://{cid}", "restartCount": 0}
        for n, cid in (containers or {}).items()
    ]
    spec: Thing = {"nodeName": node, "containers": [{"name": "main", "image": "x"}]}
    if host_network:
        spec["hostNetwork"] = True
    return {"metadata": meta, "spec": spec, "status": status}


def _owner(kind: str, name: str) -> Thing:
    return {"kind": kind, "name": name, "uid": f"{kind}/{name}", "controller": True}


def owner(kind: str, name: str, above: tuple[str, str] | None = None) -> Thing:
    """A ReplicaSet or Job, as its pods name it by ``owner``; ``above`` is its own controller."""
    meta: Thing = {"name": name, "namespace": "shop", "uid": f"{kind}/{name}"}
    meta |= {"ownerReferences": [_owner(*above)] if above else []}
    return {"metadata": meta, "spec": {"replicas": 1}, "status": {}}


def policy(name: str) -> Thing:
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": {"podSelector": {}}}


def service(name: str, *addresses: str, namespace: str = "shop", **more: Any) -> Thing:
    """Without addresses it is headless. ``external``, ``ingress``: lists of further addresses."""
    ips = list(addresses) or ["None"]
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": stamp(1_600_000_000),
        },
        "spec": {
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "externalIPs": more.get("external", []),
            "ports": [{"port": 80, "targetPort": "http"}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in more.get("ingress", [])]}},
    }


def backend(address: str, pod: Thing | None = None) -> Thing:
    thing: Thing = {"addresses": [address], "conditions": {"ready": True}}
    if pod is not None:
        meta = pod["metadata"]
        thing["nodeName"] = pod["spec"]["nodeName"]
        thing["targetRef"] = {
            "kind": "Pod",
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        }
    return thing


def endpoint_slice(service: str, *backends: Thing, namespace: str = "shop", n: int = 1) -> Thing:
    return {
        "metadata": {
            "name": f"{service}-{n}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": list(backends),
        "ports": [{"name": "http", "port": 80}],
    }


def node(name: str, *addresses: str, zone: str = "") -> Thing:
    return {
        "metadata": {
            "name": name,
            "labels": {"topology.kubernetes.io/zone": zone} if zone else {},
            "creationTimestamp": stamp(1_600_000_000),
        },
        "status": {"addresses": [{"type": "InternalIP", "address": a} for a in addresses]},
    }
