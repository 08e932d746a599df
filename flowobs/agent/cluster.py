"""The agent's part of a Kubernetes cluster: its source of names, and how fresh they are."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from flowobs.agent.metrics import Metrics
from flowobs.identity.places import Places
from flowobs.kubernetes import access, kubeconfig
from flowobs.kubernetes.source import KubernetesSource

_log = logging.getLogger(__name__)

SYNC_SECONDS = 10.0
"""How long a starting agent waits for names; after that it observes without them."""


class Cluster:
    """Names from the cluster of ``config``, or from the one whose pod we are; ``name`` is what it
    is called, by default what the kubeconfig calls it.

    Raises AccessError.
    """

    def __init__(
        self, config: Path | None, node: str, places: Places, metrics: Metrics, name: str = ""
    ) -> None:
        found = kubeconfig.read(config) if config is not None else access.in_cluster()
        found = replace(found, cluster=name or found.cluster)
        self.source = KubernetesSource(found, node=node, places=places)
        self._metrics = metrics

    def start(self, wait: float = SYNC_SECONDS) -> None:
        if not self.source.start(wait):
            problems = {s.problem for s in self.source.states if s.problem}
            _log.warning(
                "names from the cluster are not known yet, records go without them: %s",
                "; ".join(sorted(problems)) or "its API server is slow",
            )

    def stop(self) -> None:
        self.source.stop()

    def measure(self) -> None:
        """Write down how fresh the names are."""
        for state in self.source.states:
            self._metrics.identity_age.labels(state.resource).set(state.age)
            self._metrics.identity_stale.labels(state.resource).set(state.stale)
            self._metrics.identity_objects.labels(state.resource).set(state.objects)
        self._metrics.identity_requests.set(self.source.watch.client.requests)
        self._metrics.identity_conflicts.set(self.source.table.conflicts)
