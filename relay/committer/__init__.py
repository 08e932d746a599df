"""From closed commit groups to rows in the store, once each."""

from __future__ import annotations

from collections.abc import Callable

from relay.committer.base import MAX_QUEUE_ROWS, Committer, Group, Sink
from relay.committer.combine import CombiningCommitter
from relay.committer.direct import DirectCommitter
from relay.metrics import RelayMetrics
from relay.store import Store

__all__ = [
    "MAX_QUEUE_ROWS",
    "CombiningCommitter",
    "Committer",
    "DirectCommitter",
    "Group",
    "Sink",
    "committer_for",
]


def committer_for(
    store: Store, metrics: RelayMetrics, on_death: Callable[[BaseException], None]
) -> Committer:
    """The committer for this kind of store. Raises StoreError.

    A folder of our own can hold what has to survive a kill, so that groups share inserts. A
    server's relay keeps nothing: it may come back on another machine.
    """
    if store.folder is None:
        return DirectCommitter(store, metrics, on_death)
    return CombiningCommitter(store, store.folder / "commit", metrics, on_death)
