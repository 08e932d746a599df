"""The parts of Kubernetes objects that names are made of; everything else is skipped in decoding.

Field names are the API's, so that there is no table of renames to read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

import msgspec


class _Part(msgspec.Struct, gc=False, frozen=True, omit_defaults=True):
    """A part of an object. None of them can be in a cycle: the collector need not look."""


class Owner(_Part, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Annotations(_Part, frozen=True):
    config_hash: str = msgspec.field(default="", name="kubernetes.io/config.hash")
    """Of a static pod: what its cgroup is called by, instead of the uid."""
    initial_events_end: str = msgspec.field(default="", name="k8s.io/initial-events-end")


class Meta(_Part, frozen=True):
    uid: str = ""
    name: str = ""
    namespace: str = ""
    resourceVersion: str = ""
    creationTimestamp: datetime | None = None
    labels: dict[str, str] | None = None
    annotations: Annotations | None = None
    ownerReferences: list[Owner] | None = None


class Address(_Part, frozen=True):
    ip: str = ""


class PodSpec(_Part, frozen=True):
    nodeName: str = ""
    hostNetwork: bool = False


class Terminated(_Part, frozen=True):
    finishedAt: datetime | None = None


class ContainerState(_Part, frozen=True):
    terminated: Terminated | None = None


class ContainerStatus(_Part, frozen=True):
    name: str = ""
    containerID: str = ""
    state: ContainerState = ContainerState()


class PodStatus(_Part, frozen=True):
    phase: str = ""
    podIP: str = ""
    podIPs: list[Address] | None = None
    hostIP: str = ""
    hostIPs: list[Address] | None = None
    startTime: datetime | None = None
    containerStatuses: list[ContainerStatus] | None = None
    initContainerStatuses: list[ContainerStatus] | None = None
    ephemeralContainerStatuses: list[ContainerStatus] | None = None


class Pod(_Part, frozen=True):
    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class ServiceSpec(_Part, frozen=True):
    clusterIP: str = ""
    clusterIPs: list[str] | None = None
    externalIPs: list[str] | None = None


class LoadBalancer(_Part, frozen=True):
    ingress: list[Address] | None = None


class ServiceStatus(_Part, frozen=True):
    loadBalancer: LoadBalancer = LoadBalancer()


class Service(_Part, frozen=True):
    metadata: Meta
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class Target(_Part, frozen=True):
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class Backend(_Part, frozen=True):
    addresses: list[str] | None = None
    targetRef: Target | None = None
    nodeName: str | None = None


class EndpointSlice(_Part, frozen=True):
    metadata: Meta
    addressType: str = ""
    endpoints: list[Backend] | None = None


class NodeAddress(_Part, frozen=True):
    type: str = ""
    address: str = ""


class NodeStatus(_Part, frozen=True):
    addresses: list[NodeAddress] | None = None


class Node(_Part, frozen=True):
    metadata: Meta
    status: NodeStatus = NodeStatus()


class Namespace(_Part, frozen=True):
    metadata: Meta


class NetworkPolicy(_Part, frozen=True):
    metadata: Meta


class ReplicaSet(_Part, frozen=True):
    metadata: Meta


class Job(_Part, frozen=True):
    metadata: Meta


Object = Pod | Service | EndpointSlice | Node | Namespace | NetworkPolicy | ReplicaSet | Job
ObjectT = TypeVar(
    "ObjectT", Pod, Service, EndpointSlice, Node, Namespace, NetworkPolicy, ReplicaSet, Job
)


class ListMeta(_Part, frozen=True):
    resourceVersion: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(_Part, Generic[ObjectT], frozen=True):
    """One page of a list."""

    metadata: ListMeta
    items: list[ObjectT] | None = None


class RawPage(_Part, frozen=True):
    """The same, where an object in it is not as we know it."""

    metadata: ListMeta
    items: list[msgspec.Raw] | None = None


class Bookmark(_Part, frozen=True):
    """Any object, of which only the metadata is looked at."""

    metadata: Meta


class Status(_Part, frozen=True):
    """What the server says instead of an answer."""

    code: int = 0
    reason: str = ""
    message: str = ""


class Event(_Part, frozen=True):
    """One line of a watch; what ``object`` is depends on ``type``."""

    type: str
    object: msgspec.Raw


def time_ns(moment: datetime | None) -> int | None:
    """UTC nanoseconds of a time in an object; None where there is none."""
    return None if moment is None else int(moment.timestamp()) * 1_000_000_000
