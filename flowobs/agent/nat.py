"""Follows a namespace's NAT, so that both sides of one are told as one flow."""

from __future__ import annotations

import errno
import logging
import time

import numpy as np

from flowobs.agent.conntrack import TRANSLATION, Array, Conntrack
from flowobs.agent.metrics import Metrics
from flowobs.agent.netlink import DumpInterrupted
from flowobs.agent.translations import STILL_THERE, TRANSLATED, Translations
from flowobs.batch import FlowBatch, writable

_log = logging.getLogger(__name__)

LOST = "the backend behind a virtual address: both sides of a NAT are flows of their own"
"""What it means where there is no news of translations."""

_LIST_EVERY_S = 60.0
_LIST_REST_S = 2.0
"""Between two lists, even where the kernel leaves out events all the time."""
_CONFIRMED_AFTER_S = 0.005
"""By then a packet has been through the stack and the kernel has told of its translation."""
_FRESH_NS = 50 * 10**6
"""Openings that are older do not wait."""
_WAIT_EVERY_S = 0.05
"""Under load batches come one after the other, and most of what is in the next one waited there."""
_MOST_READS = 16
_NO_MODULE = (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT)


def why_not(conntrack: Conntrack) -> str:
    """Why the kernel tells of no translations; empty where it does."""
    try:
        conntrack.open()
        try:
            for _ in conntrack.list():
                pass
        finally:
            conntrack.close()
    except OSError as error:
        return _sentence(error)
    return ""


class Nat:
    """Keeps up with a namespace's translations and applies them. Not for more than one thread."""

    def __init__(self, conntrack: Conntrack, metrics: Metrics) -> None:
        self.missing = ""
        """Why there is no news of translations; empty where there is."""
        self._conntrack = conntrack
        self._metrics = metrics
        self._known = Translations()
        self._lost = self._late = 0
        self._running = False
        self._behind = True
        self._listed = self._waited = -np.inf
        metrics.nat_translations.set_function(lambda: len(self._known) // 2)

    def start(self) -> None:
        """Read all translations there are, and listen. ``missing`` says where that is refused."""
        try:
            self._conntrack.open()
        except OSError as error:
            self._end(error)
            return
        self._running = True
        self._metrics.nat_available.set(1)
        self.poll()

    def stop(self) -> None:
        if self._running:
            self._running = False
            self._conntrack.close()

    def poll(self) -> None:
        """Take in what the kernel has told. At least once a second: it does not wait for ever."""
        if not self._running:
            return
        # What is not known cannot be out of date.
        if self._behind or len(self._known):
            rest_s = _LIST_REST_S if self._behind else _LIST_EVERY_S
            if time.monotonic() >= self._listed + rest_s:
                self._list()
        for _ in range(_MOST_READS):
            if not self._running or not self._read():
                break
        lost = self._known.overflow + self._conntrack.unreadable
        self._metrics.nat_lost.inc(lost - self._lost)
        self._metrics.nat_unresolved.inc(self._known.late - self._late)
        self._lost, self._late = lost, self._known.late

    def translate(self, batch: FlowBatch) -> None:
        """Have the records of translated flows say client and backend. Columns change in place."""
        if not self._running or not len(batch):
            return
        self.poll()
        known, columns = self._known, batch.columns
        opens = known.translate(columns)
        # Of what is older the kernel has told by now.
        opens = opens[columns["time"][opens] > time.time_ns() - _FRESH_NS]
        if not opens.size:
            return
        # The kernel tells of a translation once the packet has left, its opening was before.
        if time.monotonic() >= self._waited + _WAIT_EVERY_S:
            learned = known.learned
            time.sleep(_CONFIRMED_AFTER_S)
            self._waited = time.monotonic()
            self.poll()
            if known.learned > learned:
                opens = self._translate(columns, opens)
        known.told(columns, opens)

    def _translate(self, columns: dict[str, Array], rows: Array) -> Array:
        """Translate these rows; those of them that are not of a translated flow."""
        some = {name: columns[name][rows] for name in (*TRANSLATED, "proto", "kind", "time")}
        left = self._known.translate(some)
        if len(left) < len(rows):
            for name in TRANSLATED:
                writable(columns, name)[rows] = some[name]
        return rows[left]

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            changes = self._conntrack.read()
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                self._end(error)
                return False
            self._metrics.nat_overruns.inc()
            self._behind = True
            return True
        found, gone = changes.translations, changes.gone
        if not len(found):
            return False
        self._known.learn(found, np.where(gone, time.time_ns(), STILL_THERE))
        return True

    def _list(self) -> None:
        """Everything anew: the kernel may tell nothing of connections older than our socket.

        (nf_conntrack_events=2, the default since 5.19.)
        """
        self._listed, self._behind = time.monotonic(), False
        now_ns = time.time_ns()
        try:
            found = [np.zeros(0, TRANSLATION), *self._conntrack.list()]
        except DumpInterrupted:
            self._behind = True
            return
        except OSError as error:
            self._end(error)
            return
        self._known.replace(np.concatenate(found), now_ns)

    def _end(self, error: OSError) -> None:
        self.stop()
        self.missing = _sentence(error)
        self._metrics.nat_available.set(0)
        _log.warning("NAT is not followed", extra={"why": self.missing, "lost": LOST})


def _sentence(error: OSError) -> str:
    hint = ": load the module nf_conntrack_netlink" if error.errno in _NO_MODULE else ""
    if error.errno == errno.EPERM:
        hint = ": it needs CAP_NET_ADMIN"
    return f"no news of translations: {error.strerror or error}{hint}"
