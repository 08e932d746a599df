"""An agent's copy of the cluster's objects as the relay tells of them, kept in a table of names."""

from __future__ import annotations

import time
from collections.abc import Callable

from flowobs._proto.flowobs.v1 import identity_pb2 as pb
from flowobs.kubernetes import changes
from flowobs.kubernetes.changes import ChangesError, Put, Remove
from flowobs.kubernetes.table import Table


class Replica:
    """Feeds ``table`` with snapshots and deltas. A snapshot after the first is taken as a
    difference: what it does not name went at some time since we last knew everything.
    """

    def __init__(self, table: Table, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.table = table
        self.epoch = 0
        """The relay's run that ``version`` is of; 0: what we have is of no version."""
        self.version = 0
        self.snapshots = 0
        self.changes = 0
        """Changes taken from deltas."""
        self.known: dict[str, int] = {}
        """uid -> hash of what the table has."""
        self._clock = clock
        self._complete_ns = clock()
        """UTC time at which the relay last knew all there was, and told us."""
        self._listing: tuple[int, int, int] | None = None
        """Epoch and version of the snapshot that is coming, and the part that is next."""
        self._seen: set[str] = set()

    @property
    def synced(self) -> bool:
        """All there is was learnt once."""
        return self.snapshots > 0

    def take_freshness(self, told: pb.Freshness) -> None:
        """Until when what we have is all there was."""
        if self.epoch and told.epoch == self.epoch and told.version <= self.version:
            age = max((r.age_ms for r in told.resources), default=0)
            self._complete_ns = max(self._complete_ns, self._clock() - age * 1_000_000)

    def forget_version(self) -> None:
        """Something that came could not be taken: only a snapshot helps."""
        self.epoch = self.version = 0

    def interrupted(self) -> None:
        """The stream has ended: the rest of a snapshot will not come."""
        self._listing = None

    def take_snapshot(self, part: pb.Snapshot) -> None:
        """Raises ChangesError where it is not the part that is next."""
        came = part.epoch, part.version, part.part
        if part.part == 0:
            self._begin(part)
        elif came != self._listing:
            raise ChangesError("a part of a snapshot is missing")
        since_ns = self._complete_ns
        for change in changes.unpack(part.changes):
            if isinstance(change, Put):
                self._seen.add(self._put(change, since_ns))
        self._listing = part.epoch, part.version, part.part + 1
        if part.last:
            self._end()

    def take_delta(self, delta: pb.Delta) -> None:
        """Raises ChangesError where it is not what follows on what we have."""
        if not self.epoch or delta.version != self.version + 1:
            raise ChangesError(f"change {delta.version} does not follow on {self.version}")
        for change in changes.unpack(delta.changes):
            self.changes += 1
            if isinstance(change, Put):
                self._put(change, change.since_ns)
            elif isinstance(change, Remove):
                self._remove(change.uid, change.at_ns)
            else:
                self.table.settled()
        self.version = delta.version

    def _begin(self, part: pb.Snapshot) -> None:
        if part.cluster != self.table.cluster:
            # what is known is put again, under the other name
            self.table.cluster = part.cluster
            self.known = dict.fromkeys(self.known, 0)
        self.forget_version()
        self._seen = set()

    def _end(self) -> None:
        assert self._listing is not None
        for uid in [uid for uid in self.known if uid not in self._seen]:
            self._remove(uid, self._complete_ns)
        self.epoch, self.version, _ = self._listing
        self._listing = None
        self._seen = set()
        self.snapshots += 1
        self.table.settled()

    def _put(self, change: Put, since_ns: int | None) -> str:
        """The object's uid. What the table has already is not put again."""
        thing = changes.thing(change)
        if thing is None:
            return ""
        uid, content = thing.metadata.uid, hash(bytes(change.object))
        if uid and self.known.get(uid) != content:
            self.known[uid] = content
            self.table.put(thing, since_ns)
        return uid

    def _remove(self, uid: str, at_ns: int) -> None:
        if self.known.pop(uid, None) is not None:
            self.table.remove(uid, at_ns)
