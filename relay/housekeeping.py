"""Applies the store's retention and gives memory back, now and then."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Final

from relay import memory
from relay.metrics import RelayMetrics
from relay.store import Store, StoreError

log = logging.getLogger(__name__)

EVERY_S: Final = 10.0
_TRIM_S: Final = 2.0


class Housekeeping:
    """A thread that sweeps the store, and trims memory, from ``start`` to ``stop``."""

    def __init__(self, store: Store, metrics: RelayMetrics, every_s: float = EVERY_S) -> None:
        self._store = store
        self._metrics = metrics
        self._every_s = every_s
        self._stopping = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Sweep no more; a sweep that runs ends with the store."""
        self._stopping.set()

    def _run(self) -> None:
        due = time.monotonic() + self._every_s
        while not self._stopping.wait(min(_TRIM_S, self._every_s)):
            memory.trim()
            with suppress(StoreError):  # the sweep says what is wrong
                self._store.trim()
            if time.monotonic() < due:
                continue
            due = time.monotonic() + self._every_s
            try:
                self._metrics.swept_bytes.inc(self._store.sweep())
                self._failing = False
            except StoreError as error:
                self._metrics.sweep_errors.inc()
                if not self._failing and not self._stopping.is_set():
                    log.error("what is past its retention cannot be dropped: %s", error)
                self._failing = True
