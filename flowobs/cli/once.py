"""A flow crosses several interfaces, and each tells of it: a person wants to read it once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from flowobs.cli.client import Row

FLOWS = 65_536
SILENT_S = 5.0
"""When the chosen point has said nothing for so long, another one may take over."""

_ENDS = ("proto", "src_ip", "src_port", "dst_ip", "dst_port", "icmp_type")
_TRAFFIC = frozenset({"open", "update", "close"})


class OnePoint:
    """Lets the records of each flow through from one observation point: the first that told of it.

    Remembers ``FLOWS`` flows; a forgotten one may change its point.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._chosen: OrderedDict[tuple[object, ...], tuple[object, float]] = OrderedDict()

    def shows(self, row: Row) -> bool:
        """Whether this record is from its flow's point."""
        kind = row.get("kind")
        flow = (kind in _TRAFFIC or kind, *(row.get(name) for name in _ENDS))
        point = (row.get("node"), row.get("interface"), row.get("reporter"))
        now = self._clock()
        chosen, at = self._chosen.get(flow, (point, now))
        if chosen != point and now - at < SILENT_S:
            return False
        self._chosen[flow] = (point, now)
        self._chosen.move_to_end(flow)
        if len(self._chosen) > FLOWS:
            self._chosen.popitem(last=False)
        return True
