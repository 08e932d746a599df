"""Kubernetes objects as names for addresses and containers, changed one object at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from flowobs.batch import Endpoint
from flowobs.identity import numbers
from flowobs.identity.leases import Leases
from flowobs.identity.numbers import Reserved
from flowobs.identity.source import BEGINNING, END, Answer, Claim, is_called
from flowobs.kubernetes import objects
from flowobs.kubernetes.backends import Backends
from flowobs.kubernetes.pods import LabelSets, PodFacts, facts
from flowobs.kubernetes.vips import node_addresses, service_addresses
from flowobs.schema import EndpointKind

SOURCE = "kubernetes"
ZONE = "topology.kubernetes.io/zone"
_WHAT = ("a pod", "a node", "a service", "a backend")
"""What is asked for an address, in this order."""
_MAX_LABEL_SETS = 1 << 16


class Table:
    """Who has which address, and whose a container is, in the cluster named ``cluster``.

    ``node``: the one whose pods are put here; other nodes' are known only as far as services tell
    by their EndpointSlices. Empty: all pods are put here.

    A pod's own address is asked for first, then a node's, a service's, and what a service has for
    backends. Changes come from one thread; any may look up.
    """

    def __init__(
        self, cluster: str = "", node: str = "", *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.cluster = cluster
        self.node = node
        self.pods: dict[str, PodFacts] = {}
        self.zones: dict[str, str] = {}
        """node -> zone"""
        self.namespaces: dict[str, str] = {}
        """uid -> name"""
        self._clock = clock
        self._now_ns = clock()
        self._settled = False
        self._version = 0
        self._unsure_ns = BEGINNING
        """Until then things may have come and gone that we never heard of."""
        self._gap = False
        """What is being put is from a list after a time without a watch."""
        self._containers: dict[str, str] = {}
        """container id or static pod's hash -> uid"""
        self._pods = Leases()
        self._nodes = Leases()
        self._services = Leases()
        self._others = Leases()
        self._backends = Backends()
        self._held: dict[tuple[str, int], tuple[bytes, ...]] = {}
        """Addresses that an object claims, by its uid and the table they are in."""
        self._addressed: set[str] = set()
        """uids of pods that have had an address"""
        self._node_names: dict[str, str] = {}
        self._label_sets: LabelSets = {}
        self._lock = threading.Lock()

    # --- changes ---

    def put(self, thing: objects.Object, since_ns: int | None) -> None:
        """It is new, or has changed: just now, or where a list says so at some time after
        ``since_ns``, since when other things may have come and gone, too.
        """
        with self._lock:
            now_ns = self._now()
            at_ns = now_ns if since_ns is None else min(since_ns, now_ns)
            # Who had an address before the one that the list says is not known then. The first
            # list's do not matter: there are no records of before.
            self._gap = since_ns is not None and self._settled
            if self._gap:
                self._unsure_ns = now_ns
            match thing:
                case objects.Pod():
                    self._put_pod(thing, at_ns, now_ns)
                case objects.Service():
                    endpoint = self._endpoint(EndpointKind.service, thing.metadata)
                    name = thing.metadata.name
                    endpoint = endpoint._replace(service=name, services=name)
                    self._claim(
                        self._services,
                        thing.metadata,
                        service_addresses(thing),
                        endpoint,
                        at_ns,
                        now_ns,
                    )
                case objects.EndpointSlice():
                    self._changed_backends(self._backends.put(thing), now_ns)
                case objects.Node():
                    self._put_node(thing, at_ns, now_ns)
                case objects.Namespace():
                    self.namespaces[thing.metadata.uid] = thing.metadata.name

    def remove(self, uid: str, at_ns: int) -> None:
        """It is gone; it was there, as far as is known, until ``at_ns``."""
        with self._lock:
            now_ns = self._now()
            self._gap = False
            for leases in self._all:
                for address in self._held.pop((uid, id(leases)), ()):
                    leases.release(address, uid, min(at_ns, now_ns), now_ns)
            self._addressed.discard(uid)
            pod = self.pods.pop(uid, None)
            if pod is not None:
                self._forget_containers(pod)
                self._version += 1
            self.namespaces.pop(uid, None)
            name = self._node_names.pop(uid, "")
            # a relist tells of a node's successor of the same name before it tells that this went
            if not self.has_node(name):
                self._set_zone(name, "")
            self._changed_backends(self._backends.remove(uid), now_ns)

    def settled(self) -> None:
        """All that there is has been put, for the first time (a name that changes from now on was
        another before) or after a time without a watch.
        """
        if self._settled:
            self._unsure_ns = self._now()
        self._settled = True

    def expire(self) -> None:
        """Forget what ended too long ago. About once a second."""
        with self._lock:
            now_ns = self._now()
            for leases in self._all:
                leases.expire(now_ns)
            if len(self._label_sets) > _MAX_LABEL_SETS:
                self._label_sets.clear()

    def _put_pod(self, pod: objects.Pod, at_ns: int, now_ns: int) -> None:
        new = facts(pod, self.cluster, at_ns, self._label_sets)
        old = self.pods.get(new.uid)
        self.pods[new.uid] = new
        if old is not None and old.containers != new.containers:
            self._forget_containers(old)
        for container, _ in new.containers:
            self._containers[container] = new.uid
        if new.static:
            self._containers[new.static] = new.uid
        if old != new:
            self._version += 1
        self._name_pod(new, at_ns, now_ns)

    def _forget_containers(self, pod: PodFacts) -> None:
        for container in (*(c for c, _ in pod.containers), pod.static):
            if self._containers.get(container) == pod.uid:
                del self._containers[container]

    def _name_pod(self, pod: PodFacts, at_ns: int, now_ns: int) -> None:
        key = pod.uid, id(self._pods)
        held = self._held.get(key, ())
        wanted = pod.addresses if pod.end_ns is None else ()
        endpoint = self.pod_endpoint(pod)
        if pod.end_ns is not None:
            # one that was over before its address was known had it all the same
            for address in pod.addresses:
                if address not in held:
                    self._pods.past(
                        address,
                        pod.uid,
                        endpoint if pod.start_ns >= self._unsure_ns else None,
                        pod.start_ns,
                        min(pod.end_ns, now_ns),
                        now_ns,
                    )
        for address in held:
            if address not in wanted:
                until_ns = at_ns if pod.end_ns is None else pod.end_ns
                self._pods.release(address, pod.uid, min(until_ns, now_ns), now_ns)
        for address in wanted:
            # another address than before: its sandbox was made anew, at some time until now
            moved = address not in held and pod.uid in self._addressed
            sure_ns = now_ns if moved else self._unsure_ns
            self._pods.claim(
                address,
                pod.uid,
                endpoint,
                pod.start_ns,
                now_ns,
                sure_ns=sure_ns,
                rename=not self._settled,
            )
        if wanted:
            self._addressed.add(pod.uid)
        self._hold(key, wanted)

    def _put_node(self, node: objects.Node, at_ns: int, now_ns: int) -> None:
        meta = node.metadata
        self._node_names[meta.uid] = meta.name
        self._set_zone(meta.name, (meta.labels or {}).get(ZONE, ""))
        endpoint = self._endpoint(EndpointKind.node, meta)._replace(
            node=meta.name, identity=Reserved.remote_node
        )
        self._claim(self._nodes, meta, node_addresses(node), endpoint, at_ns, now_ns)

    def _set_zone(self, node: str, zone: str) -> None:
        if zone == self.zones.get(node, ""):
            return
        if zone:
            self.zones[node] = zone
        else:
            del self.zones[node]
        self._version += 1

    def _changed_backends(self, changed: Iterable[tuple[str, bytes]], now_ns: int) -> None:
        """Name anew what became, or is no more, a backend: pods by uid, others by address."""
        for uid, address in changed:
            pod = self.pods.get(uid)
            if pod is not None and pod.end_ns is None:
                self._name_pod(pod, now_ns, now_ns)
            owner = uid or address.hex()
            key = f"{owner}/{address.hex()}", id(self._others)
            backend = self._backends.endpoint(uid, address)
            # of pods put here more is known, and sooner
            if backend is None or (uid and self.node in ("", backend.node)):
                if self._held.pop(key, ()):
                    self._others.release(address, owner, now_ns, now_ns)
                continue
            named = backend._replace(cluster=self.cluster, identity_source=SOURCE)
            # since when it was there nobody says
            self._others.claim(address, owner, named, now_ns, now_ns, rename=not self._settled)
            self._held[key] = (address,)

    def _claim(
        self,
        leases: Leases,
        meta: objects.Meta,
        addresses: tuple[bytes, ...],
        endpoint: Endpoint,
        at_ns: int,
        now_ns: int,
    ) -> None:
        key = meta.uid, id(leases)
        for address in self._held.get(key, ()):
            if address not in addresses:
                leases.release(address, meta.uid, at_ns, now_ns)
        start = objects.time_ns(meta.creationTimestamp) or now_ns
        for address in addresses:
            leases.claim(
                address,
                meta.uid,
                endpoint,
                start,
                now_ns,
                sure_ns=self._unsure_ns,
                rename=not self._settled,
            )
        self._hold(key, addresses)

    def _hold(self, key: tuple[str, int], addresses: tuple[bytes, ...]) -> None:
        if addresses:
            self._held[key] = addresses
        else:
            self._held.pop(key, None)

    # --- names ---

    def by_address(self, address: bytes, time_ns: int) -> Answer:
        """Who had ``address`` (16 bytes) at ``time_ns``."""
        start, end = BEGINNING, END
        for leases in self._all:
            found = leases.at(address, time_ns)
            start, end = max(start, found.start_ns), min(end, found.end_ns)
            if found.endpoint is not None or found.contested:
                break
        else:
            return Answer(None, start, end)
        who = found.endpoint
        if who is not None and who.kind == EndpointKind.node:
            # one that runs the API server is that rather than any node
            other = self._others.at(address, time_ns)
            start, end = max(start, other.start_ns), min(end, other.end_ns)
            if other.endpoint and other.endpoint.identity == Reserved.kube_apiserver:
                who = who._replace(identity=Reserved.kube_apiserver)
        return Answer(self._zoned(who) if who is not None else None, start, end)

    def explain(self, address: bytes, time_ns: int) -> list[Claim]:
        """All that have or had ``address``, and which of them :meth:`by_address` believes."""
        claims: list[Claim] = []
        taken = ""
        for what, leases in zip(_WHAT, self._all, strict=True):
            for claim in leases.claims(SOURCE, address, time_ns):
                if claim.endpoint is not None:
                    claim = claim._replace(endpoint=self._zoned(claim.endpoint))
                if claim.accepted and taken:
                    claim = claim._replace(accepted=False, reason=f"{taken} goes before {what}")
                elif claim.accepted:
                    claim = claim._replace(endpoint=self.by_address(address, time_ns).endpoint)
                claims.append(claim)
            held = leases.at(address, time_ns)
            if not taken and (held.endpoint is not None or held.contested):
                taken = what
        return claims

    def explain_name(self, namespace: str | None, name: str, time_ns: int) -> list[Claim]:
        """The same of whatever has that name."""
        with self._lock:
            called = [leases.called(namespace, name) for leases in self._all]
            pods = list(self.pods.values())
        claims = [
            claim
            for address in sorted(set().union(*called))
            for claim in self.explain(address, time_ns)
        ]
        for pod in pods:
            who = self._zoned(self.pod_endpoint(pod))
            if not pod.addresses and is_called(who, namespace, name):
                reason = "it has its node's address: its sockets' cgroup tells"
                running = pod.start_ns <= time_ns
                claims.append(
                    Claim(SOURCE, None, who, pod.start_ns, pod.end_ns or END, running, reason)
                )
        return claims

    def by_container(self, container: str, pod: str) -> Endpoint | None:
        """Whose a container id is, or else a pod's uid (or static pod's hash) in a cgroup path."""
        uid = self._containers.get(container) or self._containers.get(pod) or pod
        found = self.pods.get(uid)
        if found is None:
            return None
        name = next((name for known, name in found.containers if known == container), "")
        endpoint = self._zoned(self.pod_endpoint(found))
        return endpoint._replace(container=name) if name else endpoint

    def _zoned(self, endpoint: Endpoint) -> Endpoint:
        """With the zone of its node, which is the same for as long as the node lives."""
        zone = self.zones.get(endpoint.node)
        return endpoint._replace(zone=zone) if zone else endpoint

    def pod_endpoint(self, pod: PodFacts) -> Endpoint:
        """The pod, but for its zone."""
        services = self._backends.services(pod.uid)
        return Endpoint(
            EndpointKind.pod,
            self.cluster,
            pod.namespace,
            pod.name,
            pod.workload.name,
            pod.workload.kind,
            services[0] if services else "",
            pod.node,
            pod.container,
            SOURCE,
            labels=pod.labels,
            services=",".join(services),
            identity=pod.identity,
        )

    @property
    def generation(self) -> int:
        """Raised after answers given earlier have changed."""
        return self._version + sum(leases.version for leases in self._all)

    @property
    def conflicts(self) -> int:
        """Times that two were said to have one address."""
        return sum(leases.conflicts for leases in self._all)

    @property
    def has_nodes(self) -> bool:
        return bool(self._node_names)

    def has_node(self, name: str) -> bool:
        return name in self._node_names.values()

    @property
    def _all(self) -> tuple[Leases, Leases, Leases, Leases]:
        return self._pods, self._nodes, self._services, self._others

    def _endpoint(self, kind: EndpointKind, meta: objects.Meta) -> Endpoint:
        labels = numbers.joined(numbers.lasting(meta.labels or {}))
        return Endpoint(
            kind, self.cluster, meta.namespace, meta.name, identity_source=SOURCE, labels=labels
        )

    def _now(self) -> int:
        """The time; it stands still while the clock goes back."""
        self._now_ns = max(self._now_ns, self._clock())
        return self._now_ns
