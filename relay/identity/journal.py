"""The cluster's objects as agents take them: all there are, and the changes that led there.

Every message is made once, whoever gets it. The log of changes is bounded: who is too far behind
gets a snapshot instead, so that no agent, however slow, has a queue here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from flowobs._proto.flowobs.v1 import identity_pb2 as pb
from flowobs.kubernetes import changes
from flowobs.kubernetes.changes import Change, Put, Remove, Settle
from flowobs.kubernetes.objects import Object

MAX_LOG_BYTES: Final = 8 << 20
MAX_LOG_DELTAS: Final = 4096
"""Seven minutes of a cluster that never rests."""


class Entry(NamedTuple):
    """A delta as it is sent, and when it was made (``time.monotonic``)."""

    version: int
    message: bytes
    made: float


class Snapshot(NamedTuple):
    """All objects at ``version``, as the messages that are sent."""

    version: int
    messages: tuple[bytes, ...]


class Journal:
    """What agents of the cluster named ``cluster`` are told. One event loop uses it.

    ``put``, ``remove`` and ``settled`` only note what happened; ``flush`` makes deltas of it.
    Before ``ready`` there is nothing to tell.
    """

    def __init__(
        self,
        cluster: str = "",
        *,
        epoch: int = 0,
        max_bytes: int = MAX_LOG_BYTES,
        max_deltas: int = MAX_LOG_DELTAS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cluster = cluster
        self.epoch = epoch or time.time_ns()
        self.version = 1
        self.ready = False
        self.changes = 0
        """Changes told in deltas so far."""
        self.snapshots = 0
        """Snapshots made so far."""
        self._objects: dict[str, Put] = {}
        self._pending: list[Change] = []
        self._log: deque[Entry] = deque()
        self._log_bytes = 0
        self._max_bytes, self._max_deltas = max_bytes, max_deltas
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._making = asyncio.Lock()

    def find(self, uid: str) -> Object | None:
        """The object with that uid, as it was put."""
        there = self._objects.get(uid)
        return changes.thing(there) if there is not None else None

    @property
    def log_bytes(self) -> int:
        """Length of the deltas that are kept."""
        return self._log_bytes

    # --- what happened ---

    def put(self, thing: Object, since_ns: int | None) -> None:
        """As Table.put; for objects of changes.KINDS."""
        there = self._objects[thing.metadata.uid] = changes.put(thing)
        if self.ready:
            new = there if since_ns is None else msgspec.structs.replace(there, since_ns=since_ns)
            self._pending.append(new)

    def remove(self, uid: str, at_ns: int) -> None:
        """As Table.remove."""
        if self._objects.pop(uid, None) is not None and self.ready:
            self._pending.append(Remove(uid, at_ns))

    def settled(self) -> None:
        """As Table.settled. The first time there is something to tell from now on."""
        if self.ready:
            self._pending.append(Settle())
        self.ready = True

    # --- what is told ---

    def flush(self) -> bool:
        """Make deltas of what is pending; False where nothing is."""
        pending, self._pending = self._pending, []
        for run in changes.parts(pending):
            self.version += 1
            delta = pb.Delta(version=self.version, changes=changes.pack(run))
            message = pb.IdentityMessage(delta=delta).SerializeToString()
            self._log.append(Entry(self.version, message, self._clock()))
            self._log_bytes += len(message)
        self.changes += len(pending)
        while self._log_bytes > self._max_bytes or len(self._log) > self._max_deltas:
            self._log_bytes -= len(self._log.popleft().message)
        return bool(pending)

    def covers(self, version: int) -> bool:
        """Whether all deltas after ``version`` are at hand."""
        return self.version - len(self._log) <= version <= self.version

    def after(self, version: int, most: int = MAX_LOG_DELTAS) -> list[Entry]:
        """The first ``most`` deltas after ``version``; none where it is not covered."""
        start = len(self._log) - (self.version - version)
        return list(islice(self._log, start, start + most)) if start >= 0 else []

    def lag(self, version: int) -> float:
        """For how many seconds ``version`` has not been all there is to tell."""
        if version >= self.version or not self._log:
            return 0.0
        first = max(0, version - (self.version - len(self._log)))
        return self._clock() - self._log[first].made

    async def snapshot(self) -> Snapshot:
        """All there is, at a version that is covered; made anew only where the last one is not."""
        async with self._making:
            found = self._snapshot
            if found is None or not self._worth(found):
                self.flush()
                version, there = self.version, list(self._objects.values())
                # made beside the event loop: 10,000 pods take a tenth of a second
                messages = await asyncio.to_thread(self._messages, version, there)
                found = self._snapshot = Snapshot(version, messages)
                self.snapshots += 1
            return found

    def _worth(self, snapshot: Snapshot) -> bool:
        """Whether it and the deltas after it are at hand, and not much more than a new one."""
        if not self.covers(snapshot.version):
            return False
        more = sum(len(entry.message) for entry in self.after(snapshot.version))
        return more <= sum(map(len, snapshot.messages))

    def _messages(self, version: int, there: list[Put]) -> tuple[bytes, ...]:
        runs = list(changes.parts(there)) or [[]]
        return tuple(
            pb.IdentityMessage(
                snapshot=pb.Snapshot(
                    epoch=self.epoch,
                    version=version,
                    cluster=self.cluster,
                    part=number,
                    last=number == len(runs) - 1,
                    changes=changes.pack(run),
                )
            ).SerializeToString()
            for number, run in enumerate(runs)
        )
