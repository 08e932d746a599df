"""What names cost: 10,000 pods, 1,000 nodes and 500 services, watched by a relay for its agents.

The API server is another process; what it sends is made before. Learning is measured against
decoding as much JSON with the standard library, enriching against a numpy take. SECONDS_EACH sets
for how long the cluster then changes, 100 times a second (default 60). Of delta_p99_s, the machine
itself takes delta_machine_p99_s: that is how late the agents' process wakes from a sleep.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench import _cluster, _deltas
from bench._cluster import PODS

SECONDS = float(os.environ.get("SECONDS_EACH", "60"))
AGENTS = (0, 20, 100)
LIMITS = {
    "sync_cpu_s": 1.5,
    "sync_rss_mb": 150,
    "agent_table_mb": 60,
    "enrich_ns_100_pods": 100,
    "enrich_ns_10k_pods": 100,
    "delta_p99_s": 1.0,
}


def sync(port: int, path: Path) -> dict[str, float]:
    """A relay's cost of learning all there is, and of the snapshot for its agents (to ``path``)."""
    from prometheus_client import CollectorRegistry

    from flowobs.kubernetes.access import Access
    from relay.identity.cluster import ClusterNames
    from relay.metrics import RelayMetrics

    access = Access(server=f"http://127.0.0.1:{port}", cluster="bench")

    async def learn() -> tuple[bytes, ...]:
        names = ClusterNames(access, RelayMetrics(CollectorRegistry(), "bench"))
        kept.append(names)
        task = asyncio.create_task(names.run())
        async with asyncio.timeout(120):
            while not names.journal.ready:  # noqa: ASYNC110 - the journal knows no events
                await asyncio.sleep(0.01)
        messages = (await names.journal.snapshot()).messages
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(names.table.pods) == PODS
        return messages

    kept: list[ClusterNames] = []
    cpu, memory = time.process_time(), _rss_mb()
    messages = asyncio.run(learn())
    cpu = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - memory
    gc.collect()
    path.write_bytes(pickle.dumps(messages))
    return {"sync_cpu_s": cpu, "sync_rss_mb": _rss_mb() - memory, "sync_peak_mb": peak,
            "snapshot_mb": sum(map(len, messages)) / 1e6}  # fmt: skip


def table(path: Path) -> dict[str, float]:
    """An agent's cost of that snapshot, and of naming records with it."""
    from bench import enrich
    from flowobs._proto.flowobs.v1 import identity_pb2 as pb
    from flowobs.batch import Endpoints, Strings
    from flowobs.kubernetes.replica import Replica
    from flowobs.kubernetes.source import TableSource
    from flowobs.kubernetes.table import Table

    messages = pickle.loads(path.read_bytes())
    table = Table()
    replica = Replica(table)
    cpu, memory = time.process_time(), _rss_mb()
    for message in messages:
        replica.take_snapshot(pb.IdentityMessage.FromString(message).snapshot)
    cpu = time.process_time() - cpu
    gc.collect()
    found = {"agent_sync_cpu_s": cpu, "agent_table_mb": _rss_mb() - memory}
    assert len(table.pods) == PODS
    for pods, name in ((PODS, "10k"), (100, "100")):
        # records of so many pods, and a table of no more
        for uid in [uid for uid in replica.known if pods < PODS and not _first(uid, pods)]:
            table.remove(uid, 0)
        endpoints = Endpoints(Strings())
        decoded = enrich.batch(pods, 0.0, endpoints)
        decoded.batch.columns["time"][:] = time.time_ns()
        work = partial(enrich.enricher(TableSource(table)).enrich, decoded)
        work()
        named = {e.name for e in map(endpoints.__getitem__, range(len(endpoints)))}
        assert len(named) > pods * 0.8, "they have names"
        found[f"enrich_ns_{name}_pods"] = enrich.best(work) / enrich.RECORDS * 1e9
    return found


def _first(uid: str, pods: int) -> bool:
    kind, _, number = uid.partition("-")
    return kind == "pod" and int(number) < pods


def _rss_mb() -> float:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - a file of the kernel's
        return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)


def run() -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, against, ratio}."""
    with _cluster.serving() as (port, size), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot"
        cost = _in_a_process("sync", str(port), str(path))
        cost |= _in_a_process("table", str(path))
        deltas = _deltas.measure(port, AGENTS, SECONDS)
    lines = [json.dumps(t) for t in _cluster.things()["pods"]]
    began = time.process_time()
    kept = [json.loads(line) for line in lines]
    plain = time.process_time() - began
    assert len(kept) == PODS
    cost["delta_p99_s"] = deltas["p99_s"]
    rows = [_row(metric, cost[metric], limit) for metric, limit in LIMITS.items()]
    rows.append(
        _row("sync_to_json", cost["sync_cpu_s"] / plain, None, f"{size / 1e6:.0f} MB json.loads")
    )
    more = ("sync_peak_mb", "snapshot_mb", "agent_sync_cpu_s")
    rows += [_row(metric, cost[metric], None) for metric in more]
    note = f"{deltas['changes_per_s']:.0f} changes/s, {_deltas.RATE} asked for"
    rows.append(_row("delta_machine_p99_s", deltas["late_p99_s"], None, note))
    one, many = AGENTS[1:]
    base = deltas["core_0"]
    each = [(deltas[f"core_{n}"] - base) / n * 1e3 for n in (one, many)]
    rows += [_row(f"relay_core_{n}", deltas[f"core_{n}"], None) for n in AGENTS]
    ratio = each[1] / each[0]
    rows.append(_row("relay_core_per_1000_agents", each[1], None, f"an agent of {one}", ratio))
    return rows


def _in_a_process(*words: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.names", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _row(
    metric: str, value: float, limit: float | None, against: str = "", ratio: float | None = None
) -> dict[str, Any]:
    if limit is not None:
        against, ratio = f"at most {limit}", value / limit
    unit = next((u for end, u in _UNITS.items() if end in metric), "")
    return {
        "bench": "names", "metric": metric, "value": round(value, 4), "unit": unit,
        "against": against, "ratio": ratio and round(ratio, 3),
    }  # fmt: skip


_UNITS = {"_cpu_s": "s", "_p99_s": "s", "_mb": "MB", "_ns": "ns", "_core": "cores"}


if __name__ == "__main__":
    if sys.argv[1] == "sync":
        print(json.dumps(sync(int(sys.argv[2]), Path(sys.argv[3]))))
    else:
        print(json.dumps(table(Path(sys.argv[2]))))
