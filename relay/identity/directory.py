"""What the relay knows of the cluster: kept by its watch, told to agents, and looked up itself."""

from __future__ import annotations

from flowobs.kubernetes import workload
from flowobs.kubernetes.changes import KINDS
from flowobs.kubernetes.objects import Job, NetworkPolicy, Object, Pod, ReplicaSet, time_ns
from flowobs.kubernetes.table import Table
from relay.identity.journal import Journal
from relay.identity.workloads import Workloads


class Directory:
    """A watch's keeper: hands on to ``table`` and ``journal`` alike, pods under their workloads."""

    node = ""

    def __init__(self, table: Table, journal: Journal) -> None:
        self.table = table
        self.journal = journal
        self._workloads = Workloads()

    def put(self, thing: Object, since_ns: int | None) -> None:
        match thing:
            case Pod():
                self._hand_on(self._workloads.resolve(thing), since_ns)
            case ReplicaSet() | Job():
                for uid in sorted(self._workloads.put(thing)):
                    self._rename(uid, thing.metadata.uid)
            case NetworkPolicy():
                pass  # counted by its watch
            case _:
                self._hand_on(thing, since_ns)

    def remove(self, uid: str, at_ns: int) -> None:
        self._workloads.forget(uid)
        self.table.remove(uid, at_ns)
        self.journal.remove(uid, at_ns)

    def settled(self) -> None:
        self.table.settled()
        self.journal.settled()

    def _hand_on(self, thing: Object, since_ns: int | None) -> None:
        assert type(thing).__name__ in KINDS
        self.table.put(thing, since_ns)
        self.journal.put(thing, since_ns)

    def _rename(self, uid: str, owner: str) -> None:
        """A pod whose owner is known by now; mostly its name told the same already."""
        pod = self.journal.find(uid)
        if isinstance(pod, Pod):
            better = self._workloads.under(pod, owner)
            if _workload(better) != _workload(pod):
                self._hand_on(better, None)


def _workload(pod: Pod) -> workload.Workload:
    meta = pod.metadata
    created = time_ns(meta.creationTimestamp)
    return workload.of_pod(meta.name, meta.labels or {}, meta.ownerReferences or (), created)
