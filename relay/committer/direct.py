"""Every group is an insert of its own."""

from __future__ import annotations

from relay.committer.base import Group, QueueCommitter

_INSERTS_PER_SECOND = 20


class DirectCommitter(QueueCommitter):
    """One insert per group, under the group's own token: no state besides the store.

    A resent group that the store has is a no-op there.
    """

    def stored(self, agent: str, epoch: int) -> int:
        """Nothing is known of earlier runs: what comes again is sorted out by the store."""
        return 0

    def group_interval_ms(self, agents: int) -> int:
        """Longer with many agents: each group costs an insert."""
        return max(1000, 1000 * agents // _INSERTS_PER_SECOND)

    def _next(self) -> list[Group]:
        with self._ready:
            return [self._groups[0]] if self._wait_for_group() else []

    def _commit(self, groups: list[Group]) -> bool:
        (group,) = groups
        batches, expired = self._fresh(groups)

        def insert() -> None:
            with self._metrics.insert_seconds.time():
                self._store.insert(batches, group.token)

        if not self._persist(insert):
            return False
        self._count(groups, expired)
        return True
