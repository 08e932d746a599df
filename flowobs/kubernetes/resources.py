"""The resources that are watched: where they are, and what they decode to."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from flowobs.kubernetes import objects
from flowobs.kubernetes.objects import Object


class Resource(NamedTuple):
    """One kind of object. ``object`` decodes one of them, ``page`` a page of a list of them."""

    name: str
    path: str
    object: msgspec.json.Decoder[Object]
    page: msgspec.json.Decoder[objects.Page[Any]]


def _resource(name: str, path: str, type: Any) -> Resource:
    page: Any = objects.Page[type]
    return Resource(name, path, msgspec.json.Decoder(type), msgspec.json.Decoder(page))


PODS = _resource("pods", "/api/v1/pods", objects.Pod)
SERVICES = _resource("services", "/api/v1/services", objects.Service)
ENDPOINT_SLICES = _resource(
    "endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", objects.EndpointSlice
)
NODES = _resource("nodes", "/api/v1/nodes", objects.Node)
NAMESPACES = _resource("namespaces", "/api/v1/namespaces", objects.Namespace)

RESOURCES = (NODES, NAMESPACES, SERVICES, ENDPOINT_SLICES, PODS)
