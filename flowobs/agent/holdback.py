"""Keeps the first records of a new pod back until its name is known, but not for long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from flowobs.agent.decode import Decoded
from flowobs.batch import FlowBatch
from flowobs.schema import Reporter

WAIT_S = 2.0
"""A kubelet tells of a pod's address one to two seconds after the pod could send."""
VAIN_S = 60.0
"""How long nothing waits for an address whose records have waited for nothing."""
MAX_ROWS = 10_000
_MAX_VAIN = 4096


class Naming(Protocol):
    """What puts names on records; see Enricher."""

    def named(self, decoded: Decoded) -> tuple[Decoded, NDArray[np.bool_]]: ...

    @property
    def generation(self) -> int: ...


class _Held(NamedTuple):
    until: float
    decoded: Decoded


class Holdback:
    """Names records, and holds those whose near end has no name yet for up to ``WAIT_S``.

    ``expecting``: whether news of pods comes at all at the moment; while it does not, nothing is
    held. What is named is never held, nor is anything beyond ``MAX_ROWS``. Not for more than one
    thread.
    """

    def __init__(
        self,
        naming: Naming,
        expecting: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.held = 0
        """Records held back since the start."""
        self.named = 0
        """Of those, the ones that got a name by it."""
        self._naming = naming
        self._expecting = expecting
        self._clock = clock
        self._waiting: list[_Held] = []
        self._rows = 0
        self._generation = -1
        self._vain: dict[bytes, float] = {}

    def enrich(self, decoded: Decoded) -> FlowBatch:
        """The records with names, without those that are held back."""
        named, nameless = self._naming.named(decoded)
        if not nameless.any() or not self._expecting():
            return named.batch
        now = self._clock()
        wait = self._worth_it(named.batch, nameless, now)
        rows = int(np.count_nonzero(wait))
        if not rows or self._rows + rows > MAX_ROWS:
            return named.batch
        if not self._waiting:
            self._generation = self._naming.generation
        self._waiting.append(_Held(now + WAIT_S, _select(named, wait)))
        self._rows += rows
        self.held += rows
        return named.batch.select(~wait)

    def release(self, everything: bool = False) -> list[FlowBatch]:
        """What was held and has got its name by now, or has waited long enough, oldest first."""
        if not self._waiting:
            return []
        now, generation = self._clock(), self._naming.generation
        news, self._generation = generation != self._generation, generation
        released: list[FlowBatch] = []
        left: list[_Held] = []
        for held in self._waiting:
            over = everything or now >= held.until
            if not (over or news):
                left.append(held)
                continue
            named, nameless = self._naming.named(held.decoded)
            self.named += int(np.count_nonzero(~nameless))
            if over:
                self._note_vain(named.batch, nameless, now)
                nameless = np.zeros_like(nameless)
            elif nameless.any():
                left.append(_Held(held.until, _select(named, nameless)))
            if not nameless.all():
                released.append(named.batch.select(~nameless))
        self._waiting = left
        self._rows = sum(len(held.decoded.batch) for held in left)
        return released

    def _worth_it(self, batch: FlowBatch, nameless: Any, now: float) -> NDArray[np.bool_]:
        """Those of ``nameless`` whose address nobody has waited for in vain."""
        wait: NDArray[np.bool_] = nameless.copy()
        if self._vain:
            at = nameless.nonzero()[0]
            addresses, inverse = np.unique(_near(batch, at), return_inverse=True)
            vain = [self._vain.get(a, 0.0) > now for a in addresses.tolist()]
            wait[at] = ~np.array(vain)[inverse]
        return wait

    def _note_vain(self, batch: FlowBatch, nameless: Any, now: float) -> None:
        at = nameless.nonzero()[0]
        if len(self._vain) > _MAX_VAIN:
            self._vain.clear()
        for address in np.unique(_near(batch, at)).tolist():
            self._vain[address] = now + VAIN_S


def _near(batch: FlowBatch, at: Any) -> Any:
    """Addresses of the ends that are next to the observation point, as V16."""
    source = batch["reporter"][at] == Reporter.source
    ips = np.where(source[:, None], batch["src_ip"][at], batch["dst_ip"][at])
    return np.ascontiguousarray(ips).view("V16")[:, 0]


def _select(decoded: Decoded, where: Any) -> Decoded:
    return Decoded(
        decoded.batch.select(where),
        decoded.ifindex[where],
        decoded.egress[where],
        decoded.netns[where],
    )
