"""Files beside the store that make a combined insert repeatable after a kill.

For each insert, in this order:

1. ``TOKEN.json``: the groups in it, as a list of [agent, epoch, number];
2. ``TOKEN.native``: its rows, renamed into place once whole;
3. the insert of that file, with TOKEN for the store's deduplication;
4. ``marks.json``, rewritten: the last group stored of each agent;
5. both files are removed, and only now are the agents told.

Whoever finds a ``TOKEN.native`` inserts it again: a no-op where step 3 was done. A mark outlives
the acknowledgement, which may not have arrived: a group that comes again is known by it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from relay.store.errors import StoreError, full

Member = tuple[str, int, int]
"""Agent, epoch, number of a group."""

MARK_S = 86_400
"""How long an agent that sends nothing is remembered; it gives up its records long before."""
MAX_MARKS = 16_384


class Mark(NamedTuple):
    """The last group stored of an agent, and when (seconds since 1970)."""

    epoch: int
    number: int
    at: float


class Spool:
    """The folder of these files. Belongs to one committer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._marks_file = folder / "marks.json"
        self._said_marks = msgspec.json.Decoder(dict[str, Mark])
        self._said_members = msgspec.json.Decoder(list[Member])
        try:
            folder.mkdir(exist_ok=True)
            self.marks = self._read_marks()
        except OSError as error:
            raise _failed(folder, error) from None

    def _read_marks(self) -> dict[str, Mark]:
        try:
            return self._said_marks.decode(self._marks_file.read_bytes())
        except FileNotFoundError:
            return {}
        except msgspec.DecodeError as error:
            raise StoreError(
                f"{self._marks_file} is damaged ({error}): remove it; records that agents send"
                " again just now may be stored twice"
            ) from None

    def left(self) -> Iterator[tuple[str, Path]]:
        """Token and file of inserts that may not have been done. Removes what came to nothing."""
        try:
            names = {path.name: path for path in self._folder.iterdir()}
            for name, path in sorted(names.items()):
                token, _, kind = name.rpartition(".")
                if kind == "native":
                    yield token, path
                elif path != self._marks_file and f"{token}.native" not in names:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise _failed(self._folder, error) from None

    def write(self, token: str, members: Sequence[Member], blocks: Iterable[bytes]) -> Path:
        """Steps 1 and 2; the file to insert. Raises StoreError, and leaves nothing then."""
        path = self._folder / f"{token}.native"
        unfinished = path.with_suffix(".tmp")
        try:
            _write(path.with_suffix(".json"), [msgspec.json.encode(members)])
            _write(unfinished, blocks)
            unfinished.rename(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            raise _failed(self._folder, error) from None
        return path

    def members(self, token: str) -> list[Member]:
        """Who is in the insert. Raises StoreError."""
        try:
            return self._said_members.decode((self._folder / f"{token}.json").read_bytes())
        except FileNotFoundError:
            return []  # killed between the two removals of step 5: the marks have them
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(f"{self._folder / token}.json cannot be read: {error}") from None

    def stored(self, members: Iterable[Member]) -> None:
        """Step 4. Raises StoreError."""
        now = time.time()
        for agent, epoch, number in members:
            known = self.marks.get(agent)
            # A newer epoch takes the older one's place: an agent finishes one before the next.
            if known is None or (epoch, number) > known[:2]:
                self.marks[agent] = Mark(epoch, number, now)
        kept = {agent: mark for agent, mark in self.marks.items() if mark.at > now - MARK_S}
        for agent in sorted(kept, key=lambda a: kept[a].at)[: max(0, len(kept) - MAX_MARKS)]:
            del kept[agent]
        self.marks = kept
        unfinished = self._marks_file.with_suffix(".tmp")
        try:
            _write(unfinished, [msgspec.json.encode(kept)])
            unfinished.rename(self._marks_file)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise _failed(self._folder, error) from None

    def finish(self, token: str) -> None:
        """Step 5. Raises StoreError."""
        try:
            for kind in ("native", "json"):
                (self._folder / f"{token}.{kind}").unlink(missing_ok=True)
        except OSError as error:
            raise _failed(self._folder, error) from None

    def has(self, agent: str, epoch: int, number: int) -> bool:
        """Whether this group was stored."""
        known = self.marks.get(agent)
        return known is not None and known.epoch == epoch and number <= known.number


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fdatasync(file.fileno())  # else a power failure may leave a name without its content


def _failed(folder: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full(folder.parent)
    return StoreError(
        f"{folder} cannot be written ({os.strerror(error.errno or 0)}): check the folder and disk"
    )
