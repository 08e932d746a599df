"""Which services a pod or an address is a backend of, from EndpointSlices."""

from __future__ import annotations

from typing import NamedTuple

from flowobs.batch import Endpoint
from flowobs.identity.numbers import Reserved
from flowobs.kubernetes.addresses import packed
from flowobs.kubernetes.objects import EndpointSlice
from flowobs.schema import EndpointKind

SERVICE = "kubernetes.io/service-name"
API_SERVER = ("default", "kubernetes")
"""The service that every cluster has for its API servers."""


class _Backend(NamedTuple):
    namespace: str
    """The service's."""
    service: str
    pod: str
    pod_namespace: str
    node: str


MAX_SERVICES = 32
"""Of one pod or address that are named."""

Key = tuple[str, bytes]
"""Uid of a pod, or empty where a backend is none, and address."""


class Backends:
    """Backends of all slices. A pod may be in several services: the first by name is shown."""

    def __init__(self) -> None:
        self._slices: dict[str, dict[Key, _Backend]] = {}
        self._of: dict[Key, dict[str, _Backend]] = {}
        """What each slice (by uid) says of a backend."""
        self._services: dict[str, dict[str, int]] = {}
        """pod uid -> service -> in how many entries"""

    def put(self, given: EndpointSlice) -> set[Key]:
        """The backends for which anything changed."""
        meta = given.metadata
        service = (meta.labels or {}).get(SERVICE, "")
        new: dict[Key, _Backend] = {}
        for endpoint in given.endpoints or () if service else ():
            target = endpoint.targetRef
            uid = target.uid if target is not None and target.kind == "Pod" else ""
            pod, where = (target.name, target.namespace) if target and uid else ("", "")
            backend = _Backend(meta.namespace, service, pod, where, endpoint.nodeName or "")
            for text in endpoint.addresses or ():
                address = packed(text)
                if address is not None:
                    new[uid, address] = backend
        return self._replace(meta.uid, new)

    def remove(self, uid: str) -> set[Key]:
        """``uid`` is a slice's, or else nothing changes."""
        return self._replace(uid, {}) if uid in self._slices else set()

    def services(self, pod: str) -> list[str]:
        """Names of the services of the pod with that uid, the first ones by name."""
        return sorted(self._services.get(pod, ()))[:MAX_SERVICES]

    def endpoint(self, uid: str, address: bytes) -> Endpoint | None:
        """A backend as its slices describe it; None: it is none any more."""
        found = self._of.get((uid, address))
        if not found:
            return None
        first = min(found.values())
        services = ",".join(sorted({b.service for b in found.values()})[:MAX_SERVICES])
        if uid:
            return Endpoint(
                EndpointKind.pod,
                namespace=first.pod_namespace,
                name=first.pod,
                service=first.service,
                node=first.node,
                services=services,
            )
        api_server = (first.namespace, first.service) == API_SERVER
        return Endpoint(
            EndpointKind.external,
            namespace=first.namespace,
            name="kube-apiserver" if api_server else first.service,
            service=first.service,
            services=services,
            identity=Reserved.kube_apiserver if api_server else Reserved.world,
        )

    def _replace(self, uid: str, new: dict[Key, _Backend]) -> set[Key]:
        old = self._slices.pop(uid, {})
        if new:
            self._slices[uid] = new
        changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        for key in changed:
            if key in old:
                self._drop(key, uid, old[key])
            if key in new:
                self._of.setdefault(key, {})[uid] = new[key]
                if key[0]:
                    counts = self._services.setdefault(key[0], {})
                    counts[new[key].service] = counts.get(new[key].service, 0) + 1
        return changed

    def _drop(self, key: Key, uid: str, backend: _Backend) -> None:
        says = self._of[key]
        del says[uid]
        if not says:
            del self._of[key]
        if not key[0]:
            return
        counts = self._services[key[0]]
        counts[backend.service] -= 1
        if not counts[backend.service]:
            del counts[backend.service]
            if not counts:
                del self._services[key[0]]
