"""Names from an inventory file, read again whenever it changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from flowobs.batch import Endpoint
from flowobs.identity import inventory_file
from flowobs.identity.inventory_file import InventoryError
from flowobs.identity.prefixes import Prefixes
from flowobs.identity.source import Answer, Claim, Socket

log = logging.getLogger(__name__)


class InventorySource:
    """The file at ``path``. Knows nothing until ``load``.

    A reload changes names from now on: records of before keep the names of before. A broken new
    version keeps the old one in use, and says so once (log, ``failures``, ``problem``).
    """

    name = inventory_file.SOURCE

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.path = path
        self.generation = 0
        self.reloads = 0
        """Times a changed file was taken."""
        self.failures = 0
        """Times a changed file was refused."""
        self.problem = ""
        """Why the file as it is now is not in use; empty when it is."""
        self.entries = 0
        """Addresses and ranges known."""
        self._broken_since: float | None = None
        self._clock = clock
        self._seen: tuple[int, ...] | None = None
        self._prefixes = Prefixes({})

    def load(self) -> None:
        """Read the file for the first time: what it says holds for records of before, too.

        Raises InventoryError.
        """
        self._seen = self._signature()
        entries = inventory_file.read(self.path)
        self._use(Prefixes.always(entries), len(entries))

    def reload(self) -> bool:
        """Read the file now. False where it is broken and the old names stay."""
        self._seen = self._signature()
        try:
            entries = inventory_file.read(self.path)
        except InventoryError as error:
            self.failures += 1
            if self._broken_since is None:
                self._broken_since = time.monotonic()
            self.problem = str(error)
            log.warning("inventory not taken, the names of before stay in use: %s", error)
            return False
        self.problem = ""
        self._broken_since = None
        self.reloads += 1
        self._use(self._prefixes.replaced(entries, self._clock()), len(entries))
        log.info("inventory read again: path=%s entries=%d", self.path, len(entries))
        return True

    @property
    def age_s(self) -> int:
        """How long the file has been one that cannot be used."""
        return 0 if self._broken_since is None else int(time.monotonic() - self._broken_since)

    def poll(self) -> None:
        """Reload if the file is another one than at the last look."""
        if self._signature() != self._seen:
            self.reload()

    def by_address(self, address: bytes, time_ns: int) -> Answer:
        return self._prefixes.at(address, time_ns)

    def explain(self, address: bytes, time_ns: int) -> list[Claim]:
        return self._prefixes.claims(self.name, address, time_ns)

    def explain_name(self, namespace: str | None, name: str, time_ns: int) -> list[Claim]:
        addresses = sorted(self._prefixes.called(namespace, name))
        return [claim for a in addresses for claim in self.explain(a, time_ns)]

    def by_socket(self, socket: Socket) -> Endpoint | None:
        """None: a file does not know sockets."""
        return None

    def _use(self, prefixes: Prefixes, entries: int) -> None:
        self._prefixes = prefixes
        self.entries = entries
        self.generation += 1  # last: see IdentitySource.generation

    def _signature(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
