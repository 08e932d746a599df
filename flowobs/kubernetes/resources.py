"""The resources that are watched: where they are, and what they decode to."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from flowobs.kubernetes import objects
from flowobs.kubernetes.objects import Object


class Resource(NamedTuple):
    """One kind of object. ``object`` decodes one of them, ``page`` a page of a list of them.

    ``extra``: names can do without, and of its objects only the metadata is asked for.
    """

    name: str
    path: str
    object: msgspec.json.Decoder[Object]
    page: msgspec.json.Decoder[objects.Page[Any]]
    extra: bool = False


def _resource(name: str, path: str, type: Any, *, extra: bool = False) -> Resource:
    page: Any = objects.Page[type]
    return Resource(name, path, msgspec.json.Decoder(type), msgspec.json.Decoder(page), extra)


PODS = _resource("pods", "/api/v1/pods", objects.Pod)
SERVICES = _resource("services", "/api/v1/services", objects.Service)
ENDPOINT_SLICES = _resource(
    "endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", objects.EndpointSlice
)
NODES = _resource("nodes", "/api/v1/nodes", objects.Node)
NAMESPACES = _resource("namespaces", "/api/v1/namespaces", objects.Namespace)

NETWORK_POLICIES = _resource(
    "networkpolicies",
    "/apis/networking.k8s.io/v1/networkpolicies",
    objects.NetworkPolicy,
    extra=True,
)
REPLICA_SETS = _resource("replicasets", "/apis/apps/v1/replicasets", objects.ReplicaSet, extra=True)
JOBS = _resource("jobs", "/apis/batch/v1/jobs", objects.Job, extra=True)

RESOURCES = (NODES, NAMESPACES, SERVICES, ENDPOINT_SLICES, PODS)
"""What names are made of."""
EXTRA = (NETWORK_POLICIES, REPLICA_SETS, JOBS)
"""What the relay watches besides."""
