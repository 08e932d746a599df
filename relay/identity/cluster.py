"""The relay's part of a Kubernetes cluster: one watch, one table, and a stream to each agent."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path
from typing import Any, Final

import grpc

from flowobs.identity import Resolver
from flowobs.identity.source import Claim
from flowobs.identity.whois import Asked, Explainer
from flowobs.kubernetes import access, kubeconfig
from flowobs.kubernetes.access import Access, AccessError
from flowobs.kubernetes.backoff import Timing
from flowobs.kubernetes.freshness import ResourceState
from flowobs.kubernetes.resources import EXTRA, RESOURCES
from flowobs.kubernetes.source import TableSource
from flowobs.kubernetes.table import Table
from flowobs.kubernetes.watch import ClusterWatch
from flowobs.rows import time_text
from relay.config import ConfigError
from relay.identity.directory import Directory
from relay.identity.journal import Journal
from relay.identity.service import Follower, IdentityService
from relay.metrics import RelayMetrics

AUTO: Final = "auto"
OFF: Final = "off"


def find_access(where: str, cluster: str = "") -> Access | None:
    """The cluster to watch: ``where`` is a kubeconfig file, "off" (None), or "auto", which is the
    cluster that we are a pod of, and None elsewhere. ``cluster``: another name for it.

    Raises ConfigError.
    """
    pod = "KUBERNETES_SERVICE_HOST" in os.environ and access.SERVICE_ACCOUNT.is_dir()
    if where == OFF or (where == AUTO and not pod):
        return None
    try:
        found = (
            access.in_cluster(folder=access.SERVICE_ACCOUNT)
            if where == AUTO
            else kubeconfig.read(Path(where))
        )
    except AccessError as error:
        raise ConfigError(f"--kubernetes {where}: {error}") from None
    return dataclasses.replace(found, cluster=cluster) if cluster else found


class ClusterNames:
    """Watches the cluster of ``access`` and tells agents. ``table`` answers for the relay."""

    def __init__(
        self, access: Access, metrics: RelayMetrics, *, timing: Timing | None = None
    ) -> None:
        self.table = Table(access.cluster)
        self.journal = Journal(access.cluster)
        self.service = IdentityService(self.journal, lambda: self.states)
        self._explain = Explainer(Resolver([TableSource(self.table)]), lambda cookie: None)
        self._metrics = metrics
        self._watch = ClusterWatch(
            access,
            Directory(self.table, self.journal),
            resources=(*RESOURCES, *EXTRA),
            timing=timing,
        )

    @property
    def states(self) -> list[ResourceState]:
        """How each resource's watch is doing."""
        return self._watch.states

    def explain(self, asked: Asked) -> list[Claim]:
        """What the API server says of an address or a name."""
        return self._explain(asked)

    def handler(self) -> grpc.GenericRpcHandler:
        """For ``server.add_generic_rpc_handlers``."""
        return self.service.handler()

    async def run(self) -> None:
        """Until cancelled; raises what ended a part of it, which nothing should."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.run())
            tasks.create_task(self.service.run())
            tasks.create_task(self._keep())

    async def _keep(self) -> None:
        """Once a second: forget what is too old, and measure."""
        metrics = self._metrics
        while True:
            self.table.expire()
            for state in self.states:
                metrics.identity_objects.labels(state.resource).set(state.objects)
                metrics.identity_age.labels(state.resource).set(state.age)
                metrics.identity_stale.labels(state.resource).set(state.stale)
            metrics.identity_requests.set(self._watch.client.requests)
            metrics.identity_agents.set(len(self.service.followers))
            metrics.identity_lag.set(
                max((self.journal.lag(f.applied) for f in self.service.followers), default=0.0)
            )
            metrics.identity_changes.set(self.journal.changes)
            metrics.identity_snapshots.set(self.service.snapshots)
            metrics.identity_log_bytes.set(self.journal.log_bytes)
            await asyncio.sleep(1)

    def status(self) -> dict[str, Any]:
        """The part ``identity`` of /api/v1/status."""
        journal = self.journal
        return {
            "cluster": journal.cluster,
            "ready": journal.ready,
            "version": journal.version,
            "requests": self._watch.client.requests,
            "resources": [
                {
                    "resource": state.resource,
                    "objects": state.objects,
                    "age_s": None if state.off else round(state.age, 1),
                    "stale": state.stale,
                    "off": state.off,
                    "problem": state.problem,
                }
                for state in self.states
            ],
            "agents": [self._follower(f) for f in sorted(self.service.followers, key=_name)],
        }

    def _follower(self, follower: Follower) -> dict[str, Any]:
        return {
            "agent": follower.agent,
            "node": follower.node,
            "since": time_text(follower.since),
            "version": follower.applied,
            "lag_s": round(self.journal.lag(follower.applied), 1),
            "snapshots": follower.snapshots,
        }


def _name(follower: Follower) -> tuple[str, int]:
    return follower.agent, follower.since
