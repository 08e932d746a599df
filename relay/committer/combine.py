"""Groups of many agents share an insert."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from relay.committer.base import MAX_QUEUE_ROWS, Group, QueueCommitter, Sink
from relay.committer.spool import Member, Spool
from relay.metrics import RelayMetrics
from relay.store.native import to_native

log = logging.getLogger(__name__)

COMBINE_ROWS = 50_000
"""An insert this large costs little more per record than a larger one."""
COMBINE_S = 0.5
"""How long the first group of an insert waits for company, and half the time between inserts."""

_LEAST_GROUP_MS = 2000
_AGENTS_PER_SECOND = 200


class CombiningCommitter(QueueCommitter):
    """Combines groups that wait together into one insert, for a store in a folder of ours.

    An insert costs about the same for 20 records as for 2,000, so a thousand agents cost little
    more than ten. Exactly once by the files of :class:`Spool`.
    """

    def __init__(
        self,
        store: Sink,
        folder: Path,
        metrics: RelayMetrics,
        on_death: Callable[[BaseException], None],
        *,
        max_queue_rows: int = MAX_QUEUE_ROWS,
        retry_first: float = 0.1,
        combine_s: float = COMBINE_S,
        combine_rows: int = COMBINE_ROWS,
    ) -> None:
        super().__init__(
            store, metrics, on_death, max_queue_rows=max_queue_rows, retry_first=retry_first
        )
        self._spool = Spool(folder)
        self._combine_s = combine_s
        self._combine_rows = self._wake_rows = combine_rows
        self._last = float("-inf")

    def stored(self, agent: str, epoch: int) -> int:
        """The agent's mark. What is replayed at this moment is not in it yet, but before its
        groups come to their turn it is."""
        mark = self._spool.marks.get(agent)
        return mark.number if mark is not None and mark.epoch == epoch else 0

    def group_interval_ms(self, agents: int) -> int:
        """An insert costs its 30 ms even for a lone agent's few records. A group costs little, but
        not nothing: some 200 a second are enough."""
        return max(_LEAST_GROUP_MS, 1000 * agents // _AGENTS_PER_SECOND)

    def _prepare(self) -> bool:
        """Do what an earlier run may have left undone, before anything new."""

        def replay() -> None:
            for token, path in self._spool.left():
                log.info("an insert of an earlier run is done again: token=%s", token)
                self._store.insert_file(path, token)
                self._finish(token, self._spool.members(token))

        return self._persist(replay)

    def _next(self) -> list[Group]:
        with self._ready:
            if not self._wait_for_group():
                return []
            # soon after a pause, at most once a second otherwise
            due = max(time.monotonic() + self._combine_s, self._last + 2 * self._combine_s)
            while (
                self._rows < self._combine_rows
                and not self._draining
                and (left := due - time.monotonic()) > 0
            ):
                self._ready.wait(left)
            self._last = time.monotonic()
            taken: list[Group] = []
            rows = 0
            for group in self._groups:
                if taken and rows + group.rows > self._combine_rows:
                    break
                taken.append(group)
                rows += group.rows
            return taken

    def _commit(self, groups: list[Group]) -> bool:
        new = [g for g in groups if not self._spool.has(g.agent, g.epoch, g.number)]
        self._metrics.groups_resent.inc(len(groups) - len(new))
        if not new:
            return True
        batches, expired = self._fresh(new)
        blocks = to_native(batches)
        members = [(g.agent, g.epoch, g.number) for g in new]
        token = self._token(members)
        path: Path | None = None
        inserted = not blocks

        def store() -> None:
            # Once the file is there, the same file and token must be tried until it works.
            nonlocal path, inserted
            if not inserted:
                path = path or self._spool.write(token, members, blocks)
                with self._metrics.insert_seconds.time():
                    self._store.insert_file(path, token)
                inserted = True
            self._finish(token, members)

        if not self._persist(store):
            return False
        self._count(new, expired)
        return True

    def _finish(self, token: str, members: list[Member]) -> None:
        self._spool.stored(members)
        self._spool.finish(token)

    def _token(self, members: list[Member]) -> str:
        return uuid.uuid4().hex
