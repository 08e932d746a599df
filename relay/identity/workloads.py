"""The workload behind a pod by its owner's owner, where the relay may watch those."""

from __future__ import annotations

import msgspec

from flowobs.kubernetes.objects import Job, Meta, Owner, Pod, ReplicaSet


class Workloads:
    """ReplicaSets and Jobs with their controllers, and whose pods they are.

    A pod of a known ReplicaSet is handed on as if its Deployment were its owner: who gets it needs
    no rule for names. Where the owner is not known the pod stays as it is, and the rules of
    :mod:`flowobs.kubernetes.workload` apply.
    """

    def __init__(self) -> None:
        self._controllers: dict[str, Owner] = {}
        """uid of a ReplicaSet or Job -> its controller, or itself where it has none"""
        self._pods: dict[str, set[str]] = {}
        """uid of an owner -> uids of its pods"""
        self._owners: dict[str, str] = {}
        """uid of a pod -> uid of its owner"""

    def resolve(self, pod: Pod) -> Pod:
        """``pod`` as it came, with the controller's controller as its owner."""
        self.forget(pod.metadata.uid)
        owner = _controller(pod.metadata)
        if owner is None or owner.kind not in ("ReplicaSet", "Job"):
            return pod
        self._owners[pod.metadata.uid] = owner.uid
        self._pods.setdefault(owner.uid, set()).add(pod.metadata.uid)
        return self.under(pod, owner.uid)

    def under(self, pod: Pod, owner: str) -> Pod:
        """``pod`` with the controller of its ``owner``, if that is known."""
        controller = self._controllers.get(owner)
        if controller is None:
            return pod
        meta = msgspec.structs.replace(pod.metadata, ownerReferences=[controller])
        return msgspec.structs.replace(pod, metadata=meta)

    def put(self, thing: ReplicaSet | Job) -> frozenset[str]:
        """The uids of pods for which that may change something."""
        meta = thing.metadata
        itself = Owner(type(thing).__name__, meta.name, meta.uid, controller=True)
        controller = _controller(meta) or itself
        if self._controllers.get(meta.uid) == controller:
            return frozenset()
        self._controllers[meta.uid] = controller
        return frozenset(self._pods.get(meta.uid, ()))

    def forget(self, uid: str) -> None:
        """A pod or an owner is gone. Pods of an owner that went keep what is known of it."""
        self._controllers.pop(uid, None)
        owner = self._owners.pop(uid, None)
        if owner is not None:
            pods = self._pods[owner]
            pods.discard(uid)
            if not pods:
                del self._pods[owner]


def _controller(meta: Meta) -> Owner | None:
    return next((owner for owner in meta.ownerReferences or () if owner.controller), None)
