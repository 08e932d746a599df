"""What a loader hands over: file descriptors by name, and why some are not there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

LoaderName = Literal["core", "bcc"]


class LoadError(RuntimeError):
    """The probes cannot do their main job here; one sentence, and what to do next."""


@dataclass(slots=True)
class Probes:
    """Loaded programs and their maps. Closing the fds unloads what nothing else (a link) holds."""

    loader: LoaderName
    programs: dict[str, int] = field(default_factory=dict)
    maps: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Programs that this kernel or this loader refused, with the reason in words."""

    def close(self) -> None:
        """Close every fd; may be called again."""
        for fds in (self.programs, self.maps):
            for fd in fds.values():
                os.close(fd)
            fds.clear()

    def __enter__(self) -> Probes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
