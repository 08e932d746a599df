"""The workload behind a pod, from its controller's name alone: no watch of ReplicaSets and Jobs.

A name is only cut where something else says that the end of it was generated. Cutting at the last
dash would make a Deployment ``foo`` of a ReplicaSet ``foo-bar``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flowobs.kubernetes.objects import Owner

_STAMP = re.compile(r"-(\d{8,10})$")
_MINUTES_OFF = 366 * 24 * 60


class Workload(NamedTuple):
    kind: str
    name: str


def of_pod(
    name: str, labels: Mapping[str, str], owners: Iterable[Owner], created_ns: int | None
) -> Workload:
    """A pod without a controller is its own workload."""
    owner = next((o for o in owners if o.controller), None)
    if owner is None:
        return Workload("Pod", name)
    if owner.kind == "ReplicaSet":
        suffix = labels.get("pod-template-hash", "")
        if suffix and owner.name.endswith(f"-{suffix}") and owner.name != f"-{suffix}":
            return Workload("Deployment", owner.name[: -len(suffix) - 1])
    if owner.kind == "Job" and (stamp := _STAMP.search(owner.name)):
        # CronJobs put the scheduled time there, in minutes (in seconds by older clusters): a Job
        # somebody named after a date is told apart by not having been made at that time
        minutes = int(stamp[1]) // (60 if len(stamp[1]) == 10 else 1)
        near = created_ns is None or abs(created_ns // 60_000_000_000 - minutes) < _MINUTES_OFF
        if near and stamp.start():
            return Workload("CronJob", owner.name[: stamp.start()])
    if owner.kind == "ReplicationController" and labels.get("deploymentconfig"):
        return Workload("DeploymentConfig", labels["deploymentconfig"])
    return Workload(owner.kind, owner.name)
