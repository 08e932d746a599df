"""A large cluster for benchmarks: its objects, and an API server for them, another process."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

PODS, NODES, SERVICES = 10_000, 1_000, 500
FIRST_POD = int(ipaddress.IPv4Address("10.0.0.1"))
STAMP = "kubernetes.io/config.hash"
"""Annotation with the time of a change (CLOCK_MONOTONIC, ns), which all of this machine share."""
_FILLER: dict[str, Any] = {f"f:field-{i}": {"f:key": {}, "f:other": {".": {}}} for i in range(75)}


def things() -> dict[str, list[dict[str, Any]]]:
    """Objects by resource; a pod has 2 containers, 6 labels and managed fields: about 7.9 KB."""
    pods = [pod(i) for i in range(PODS)]
    nodes = [
        {"metadata": meta("node", i), "status": {"addresses": [
            {"type": "InternalIP", "address": f"192.168.{i >> 8}.{i & 255}"}]}}
        for i in range(NODES)
    ]  # fmt: skip
    services = [
        {"metadata": meta("svc", i), "spec": {"clusterIP": ip, "clusterIPs": [ip]}, "status": {}}
        for i, ip in ((i, f"10.255.{i >> 8}.{i & 255}") for i in range(SERVICES))
    ]
    slices = [
        {"metadata": meta("slice", i) | {"labels": {"kubernetes.io/service-name": f"svc-{i}"}},
         "addressType": "IPv4", "endpoints": [
            {"addresses": [pods[j]["status"]["podIP"]],
             "targetRef": {"kind": "Pod", "uid": f"pod-{j}", "name": f"pod-{j}"}}
            for j in range(i * 20, i * 20 + 20)]}
        for i in range(SERVICES)
    ]  # fmt: skip
    spaces = [{"metadata": meta("ns", i)} for i in range(20)]
    return {
        "pods": pods, "nodes": nodes, "services": services, "endpointslices": slices,
        "namespaces": spaces, "networkpolicies": [], "replicasets": [], "jobs": [],
    }  # fmt: skip


def meta(kind: str, i: int) -> dict[str, Any]:
    return {
        "name": f"{kind}-{i}",
        "namespace": f"ns-{i % 20}",
        "uid": f"{kind}-{i}",
        "resourceVersion": str(i + 1),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }


def pod(i: int) -> dict[str, Any]:
    app = f"app-{i // 10}"
    labels = {"app": app, "pod-template-hash": f"{i // 10:x}", "tier": "web", "team": f"t{i % 30}"}
    labels |= {"app.kubernetes.io/name": app, "app.kubernetes.io/version": "1"}
    owner = {"kind": "ReplicaSet", "name": f"{app}-{i // 10:x}", "controller": True}
    metadata = meta("pod", i) | {"labels": labels, "ownerReferences": [owner]}
    metadata["managedFields"] = [{"manager": "kubelet", "fieldsV1": _FILLER}]
    env = [{"name": f"SETTING_{n}", "value": "x" * 60} for n in range(10)]
    containers = [{"name": name, "image": "registry/app:1", "env": env} for name in ("a", "b")]
    ip = str(ipaddress.IPv4Address(FIRST_POD + i))
    states = [
        {"name": name, "containerID": f"containerd://{i * 2 + n:064x}", "ready": True}
        for n, name in enumerate(("a", "b"))
    ]
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "192.168.0.1"}
    status |= {"containerStatuses": states, "startTime": "2026-01-01T00:00:00Z"}
    spec = {"nodeName": f"node-{i % NODES}", "containers": containers}
    return {"metadata": metadata, "spec": spec, "status": status}


class _Server:
    """Gives streaming lists, and changes of pods at the rate that somebody asks for."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.changes = 0
        self.wanted = asyncio.Event()
        self.version = 100_000
        self.streams = {
            name: b"".join(_line("ADDED", t) for t in found)
            + _line("BOOKMARK", {"metadata": {
                "resourceVersion": "99999", "annotations": {"k8s.io/initial-events-end": "true"},
            }})
            for name, found in things().items()
        }  # fmt: skip

    async def answer(self, request: Any) -> Any:
        from aiohttp import web

        name = request.path.rpartition("/")[2]
        if name == "churn":
            if "rate" in request.query:
                self.rate = float(request.query["rate"])
                self.wanted.set()
            return web.json_response(self.changes)
        response = web.StreamResponse()
        await response.prepare(request)
        stream = self.streams[name]
        for at in range(0, len(stream), 1 << 16):
            await response.write(stream[at : at + (1 << 16)])
        if name == "pods":
            with contextlib.suppress(ConnectionError):
                await self._churn(response)
        await asyncio.sleep(3600)
        return response

    async def _churn(self, response: Any) -> None:
        """Pods change one after the other, and each fifth change replaces one by another."""
        loop = asyncio.get_running_loop()
        alive = [pod(i) for i in range(1000)]
        at, due = 0, 0.0
        while True:
            if not self.rate:
                self.wanted.clear()
                await self.wanted.wait()
            self.version += 1
            one = alive[at % len(alive)]
            lines = b""
            if at % 5 == 4:
                lines = _line("DELETED", one)
                one["metadata"]["uid"] = f"pod-{self.version}"
            one["metadata"]["resourceVersion"] = str(self.version)
            one["metadata"]["annotations"] = {STAMP: str(time.monotonic_ns())}
            await response.write(lines + _line("ADDED" if lines else "MODIFIED", one))
            at += 1
            self.changes += 1
            # a second's worth at most is caught up with: more is a storm that nobody asked for
            due = max(due, loop.time() - 1) + (1 / self.rate if self.rate else 0)
            await asyncio.sleep(max(0, due - loop.time()))


def _line(kind: str, thing: Any) -> bytes:
    return json.dumps({"type": kind, "object": thing}, separators=(",", ":")).encode() + b"\n"


def _serve(connection: Any) -> None:
    from aiohttp import web

    async def main() -> None:
        server = _Server()
        app = web.Application()
        app.router.add_get("/{path:.*}", server.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        connection.send((runner.addresses[0][1], sum(map(len, server.streams.values()))))
        await asyncio.sleep(3600)

    asyncio.run(main())


@contextlib.contextmanager
def serving() -> Iterator[tuple[int, int]]:
    """The port of an API server, and how many bytes its lists are."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        yield ours.recv()
    finally:
        server.terminate()
        server.join()
