"""Identities as numbers: Hubble's for what is not a pod, a hash of the labels for pods."""

from __future__ import annotations

import enum
import functools
import hashlib
from collections.abc import Mapping


class Reserved(enum.IntEnum):
    """Hubble's numbers."""

    unknown = 0
    host = 1
    world = 2
    unmanaged = 3
    health = 4
    init = 5
    remote_node = 6
    kube_apiserver = 7
    ingress = 8


MAX_LABELS = 64
MAX_CHARACTERS = 2048
"""Of the labels that stand on a record; what is more is left out."""

FIRST = 256
"""Everything below is reserved."""

_GENERATED = frozenset(
    {
        "controller-revision-hash",
        "controller-uid",
        "job-name",
        "pod-template-generation",
        "pod-template-hash",
    }
)


def lasting(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that say what a pod is; without those that differ from replica to replica."""
    return {k: v for k, v in labels.items() if _lasts(k)}


@functools.lru_cache(4096)
def _lasts(key: str) -> bool:
    if key in _GENERATED:
        return False
    domain = key.partition("/")[0] if "/" in key else ""
    machinery = domain.endswith(("kubernetes.io", "k8s.io")) and domain != "app.kubernetes.io"
    return not machinery


def joined(labels: Mapping[str, str]) -> str:
    """Labels as they stand on a record: ``k=v``, sorted, between commas."""
    pairs: list[str] = []
    room = MAX_CHARACTERS
    for key, value in sorted(labels.items())[:MAX_LABELS]:
        room -= len(key) + len(value) + 2
        if room < 0:
            break
        pairs.append(f"{key}={value}")
    return ",".join(pairs)


def of_labels(cluster: str, namespace: str, labels: Mapping[str, str]) -> int:
    """The same number for the same labels in every agent and after every start, from 256 up.

    32 bits: among 10,000 different sets of labels two have the same number in 1 of 100 clusters.
    """
    text = "\0".join(
        (cluster, namespace, *(f"{k}={v}" for k, v in sorted(lasting(labels).items())))
    )
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return FIRST + number % ((1 << 32) - FIRST)
