"""What is kept of a pod: a few words of the thousands that the API has."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flowobs.identity import numbers
from flowobs.kubernetes import workload
from flowobs.kubernetes.addresses import packed
from flowobs.kubernetes.objects import Address, ContainerStatus, Pod, time_ns

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod as names need it."""

    uid: str
    namespace: str
    name: str
    node: str
    workload: workload.Workload
    addresses: tuple[bytes, ...]
    """Its own: none where it is on its node's network."""
    start_ns: int
    """It had no address before this time."""
    end_ns: int | None
    """It has ended, at this time at the latest if it says when; None: it may still send."""
    containers: tuple[tuple[str, str], ...]
    """Id (64 hex digits) and name of each."""
    static: str
    """config.hash of a static pod, which is in its cgroup's path instead of the uid."""
    labels: str
    """As they stand on a record."""
    identity: int

    @property
    def container(self) -> str:
        """The container's name, where there is no doubt which."""
        return self.containers[0][1] if len(self.containers) == 1 else ""


_NO_LABELS: dict[str, str] = {}


LabelSets = dict[object, tuple[str, int]]
"""Labels and identity, once for all pods that have the same ones."""


def facts(pod: Pod, cluster: str, at_ns: int, label_sets: LabelSets) -> PodFacts:
    """What names need of ``pod``, seen at ``at_ns``. The caller bounds ``label_sets``."""
    meta, spec, status = pod.metadata, pod.spec, pod.status
    labels, identity = _label_set(cluster, meta.namespace, meta.labels or _NO_LABELS, label_sets)
    created = time_ns(meta.creationTimestamp)
    start = time_ns(status.startTime) or created or at_ns
    main = status.containerStatuses or []
    ended = status.phase in ("Succeeded", "Failed")
    return PodFacts(
        uid=meta.uid,
        namespace=sys.intern(meta.namespace),
        name=meta.name,
        node=sys.intern(spec.nodeName),
        workload=workload.of_pod(
            meta.name, meta.labels or _NO_LABELS, meta.ownerReferences or (), created
        ),
        addresses=_own_addresses(pod),
        start_ns=start,
        end_ns=_end_ns(main, at_ns) if ended else None,
        containers=tuple(
            _containers((main, status.initContainerStatuses, status.ephemeralContainerStatuses))
        ),
        static=meta.annotations.config_hash if meta.annotations else "",
        labels=labels,
        identity=identity,
    )


def _label_set(
    cluster: str, namespace: str, labels: dict[str, str], seen: LabelSets
) -> tuple[str, int]:
    lasting = numbers.lasting(labels)
    key = namespace, tuple(sorted(lasting.items()))
    found = seen.get(key)
    if found is None:
        number = numbers.of_labels(cluster, namespace, lasting)
        found = seen[key] = numbers.joined(lasting), number
    return found


def _own_addresses(pod: Pod) -> tuple[bytes, ...]:
    """Pods on their node's network have the node's addresses, of all families."""
    if pod.spec.hostNetwork:
        return ()
    status = pod.status
    hosts = set(_addresses(status.hostIP, status.hostIPs))
    return tuple(a for a in _addresses(status.podIP, status.podIPs) if a not in hosts)


def _addresses(first: str, more: Iterable[Address] | None) -> Iterator[bytes]:
    texts = dict.fromkeys((first, *(address.ip for address in more or ())))
    return (address for text in texts if (address := packed(text)) is not None)


def _containers(groups: Iterable[list[ContainerStatus] | None]) -> Iterator[tuple[str, str]]:
    for group in groups:
        for container in group or ():
            identifier = container.containerID.rpartition("://")[2]
            if identifier:
                yield identifier, sys.intern(container.name)


def _end_ns(containers: Iterable[ContainerStatus], at_ns: int) -> int:
    """When the last container had surely ended (times of the API are cut to whole seconds); where
    they do not say, ``at_ns``.
    """
    finished = [
        time_ns(c.state.terminated.finishedAt) if c.state.terminated else None for c in containers
    ]
    known = [moment for moment in finished if moment is not None]
    return max(known) + _SECOND_NS if known and len(known) == len(finished) else at_ns
