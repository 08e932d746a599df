"""What learning a cluster's names costs: 10,000 pods, 1,000 nodes and 500 services by one list.

The API server is another process; what it sends is made before. Against: decoding as much JSON with
the standard library, in the same process.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import resource
import subprocess
import sys
import time
from typing import Any

PODS, NODES, SERVICES = 10_000, 1_000, 500
_FILLER = {f"f:field-{i}": {"f:key": {}, "f:other": {".": {}}} for i in range(75)}


def things() -> dict[str, list[dict[str, Any]]]:
    """Objects by resource; a pod has 2 containers, 6 labels and managed fields: about 7.9 KB."""
    pods = [_pod(i) for i in range(PODS)]
    nodes = [
        {"metadata": _meta("node", i), "status": {"addresses": [
            {"type": "InternalIP", "address": f"192.168.{i >> 8}.{i & 255}"}]}}
        for i in range(NODES)
    ]  # fmt: skip
    services = [
        {"metadata": _meta("svc", i), "spec": {"clusterIP": ip, "clusterIPs": [ip]}, "status": {}}
        for i, ip in ((i, f"10.255.{i >> 8}.{i & 255}") for i in range(SERVICES))
    ]
    slices = [
        {"metadata": _meta("slice", i) | {"labels": {"kubernetes.io/service-name": f"svc-{i}"}},
         "addressType": "IPv4", "endpoints": [
            {"addresses": [pods[j]["status"]["podIP"]],
             "targetRef": {"kind": "Pod", "uid": f"pod-{j}", "name": f"pod-{j}"}}
            for j in range(i * 20, i * 20 + 20)]}
        for i in range(SERVICES)
    ]  # fmt: skip
    spaces = [{"metadata": _meta("ns", i)} for i in range(20)]
    return {
        "pods": pods, "nodes": nodes, "services": services, "endpointslices": slices,
        "namespaces": spaces,
    }  # fmt: skip


def _meta(kind: str, i: int) -> dict[str, Any]:
    return {
        "name": f"{kind}-{i}",
        "namespace": f"ns-{i % 20}",
        "uid": f"{kind}-{i}",
        "resourceVersion": str(i + 1),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }


def _pod(i: int) -> dict[str, Any]:
    app = f"app-{i // 10}"
    labels = {"app": app, "pod-template-hash": f"{i // 10:x}", "tier": "web", "team": f"t{i % 30}"}
    labels |= {"app.kubernetes.io/name": app, "app.kubernetes.io/version": "1"}
    owner = {"kind": "ReplicaSet", "name": f"{app}-{i // 10:x}", "controller": True}
    meta = _meta("pod", i) | {"labels": labels, "ownerReferences": [owner]}
    meta["managedFields"] = [{"manager": "kubelet", "fieldsV1": _FILLER}]
    env = [{"name": f"SETTING_{n}", "value": "x" * 60} for n in range(10)]
    containers = [{"name": name, "image": "registry/app:1", "env": env} for name in ("a", "b")]
    ip = f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"
    states = [
        {"name": name, "containerID": f"containerd://{i * 2 + n:064x}", "ready": True}
        for n, name in enumerate(("a", "b"))
    ]
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "192.168.0.1"}
    status |= {"containerStatuses": states, "startTime": "2026-01-01T00:00:00Z"}
    spec = {"nodeName": f"node-{i % NODES}", "containers": containers}
    return {"metadata": meta, "spec": spec, "status": status}


def serve(connection: Any) -> None:
    """A server of streaming lists alone, in a process of its own."""
    import asyncio

    from aiohttp import web

    streams = {
        name: b"".join(
            json.dumps({"type": "ADDED", "object": t}, separators=(",", ":")).encode() + b"\n"
            for t in found
        )
        + b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"99999","annotations":'
        b'{"k8s.io/initial-events-end":"true"}}}}\n'
        for name, found in things().items()
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        stream = streams[request.path.rpartition("/")[2]]
        for at in range(0, len(stream), 1 << 16):
            await response.write(stream[at : at + (1 << 16)])
        await asyncio.sleep(3600)
        return response

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        connection.send((runner.addresses[0][1], sum(map(len, streams.values()))))
        await asyncio.sleep(3600)

    asyncio.run(main())


def learn(port: int) -> dict[str, float]:
    """The cost of the first list and the watch after it, in a fresh process."""
    from flowobs.kubernetes.access import Access
    from flowobs.kubernetes.source import KubernetesSource

    source = KubernetesSource(Access(server=f"http://127.0.0.1:{port}", cluster="bench"))
    cpu, memory = time.process_time(), _rss_mb()
    if not source.start(120):
        raise RuntimeError(f"not synced: {source.watch.states}")
    cpu = time.process_time() - cpu
    gc.collect()
    kept = _rss_mb() - memory
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - memory
    assert len(source.table.pods) == PODS
    source.stop()
    return {"cpu": cpu, "kept": kept, "peak": peak}


def _rss_mb() -> float:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - a file of the kernel's
        return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)


def run() -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, against, ratio}."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        port, size = ours.recv()
        command = [sys.executable, "-m", "bench.names", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        cost = json.loads(done.stdout)
    finally:
        server.terminate()
        server.join()
    lines = [json.dumps(t) for t in things()["pods"]]
    began = time.process_time()
    kept = [json.loads(line) for line in lines]
    plain = time.process_time() - began
    assert len(kept) == PODS
    against = f"json.loads of {size / 1e6:.0f} MB"
    return [
        _row("sync_cpu_s", cost["cpu"], "s", against, cost["cpu"] / plain),
        _row("sync_rss_mb", cost["kept"], "MB", "", None),
        _row("sync_peak_mb", cost["peak"], "MB", "", None),
    ]


def _row(metric: str, value: float, unit: str, against: str, ratio: float | None) -> dict[str, Any]:
    return {
        "bench": "names", "metric": metric, "value": value, "unit": unit, "against": against,
        "ratio": ratio,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(learn(int(sys.argv[1]))))
