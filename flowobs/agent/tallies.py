"""What the packets of flows were counted on besides their entries in the flow maps."""

from __future__ import annotations

import mmap
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowobs.agent import bpf
from flowobs.agent.records import TALLY

_SHIFT = np.uint64(40)  # TALLY_SHIFT of probes/tallies.h
_TIME = np.uint64(20)  # TALLY_TIME
_PLACES_EACH, _FEW_PLACES = 4, 64
"""Places in use for each flow, and at least: a page of memory."""
_BYTES = np.uint64((1 << 40) - 1)


class Tallies:
    """The map ``tallies``, read and cleared in place: it shares its memory with the programs."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.places = bpf.map_info(fd).max_entries // 2
        """For the tallies of each flow map."""

    @cached_property
    def rows(self) -> NDArray[Any]:
        """All of them, dtype TALLY; programs write to those of the active flow map.

        As many pages of the process from the first use on, which an idle one does without. Raises
        OSError where the kernel does not share the map.
        """
        info = bpf.map_info(self._fd)
        shared = mmap.mmap(self._fd, info.max_entries * info.value_size)
        return np.frombuffer(shared, TALLY.dtype)

    def enough_for(self, flows: int, before: int) -> int:
        """Places for so many flows, next to those ``before``: at once more, and slowly fewer.

        A few flows on a few pages, which stay in the CPU's caches. Who finds none counts in the
        flow map.
        """
        return min(self.places, max(_PLACES_EACH * flows, before - before // 4, _FEW_PLACES))

    def add_to(self, flows: NDArray[Any]) -> None:
        """Add to ``flows``, dtype FLOW, what is on their tallies, and give these back.

        Only while no program counts on them: after the grace period of their map's turn.
        """
        at = flows["tally"].nonzero()[0]
        if not at.size:
            return
        places = flows["tally"][at] - np.uint32(1)
        found = self.rows[places]
        self.rows[places] = np.zeros((), TALLY.dtype)
        flows["packets"][at] += found["counts"] >> _SHIFT
        flows["bytes"][at] += found["counts"] & _BYTES
        exact = flows["last_ns"][at]
        later = found["last"] - (exact >> _TIME).astype(np.uint32)
        last = (exact >> _TIME) + later << _TIME
        flows["last_ns"][at] = np.where(later.view(np.int32) > 0, last, exact)
        flows["tcp_flags"][at] |= found["tcp_flags"]
