"""Room that is kept on the disk for dropping parts, which a full disk would refuse."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_BYTES: Final = 1024 * 1024
"""The engine writes an empty part, some 50 KB, and then deletes the one that goes."""


class Reserve:
    """A file in the folder of an embedded engine; nothing without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else folder / "reserve"

    def keep(self) -> None:
        """Take the room where it is not taken; on a full disk, the next time."""
        if self._file is None or self._file.exists():
            return
        try:
            with self._file.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, _BYTES)
        except OSError:
            self.release()

    def release(self) -> bool:
        """Give the room to the engine; False where none is kept."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink()
                return True
        return False
