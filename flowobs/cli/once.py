"""A flow crosses several interfaces, and each tells of it: a person wants to read it once.

``ui/src/state/once.ts`` has the same rule; ``tests/cli/once_cases.json`` holds both to it.
"""

from __future__ import annotations

from collections import OrderedDict

from flowobs.cli.client import Row
from flowobs.times import parse_rfc3339

FLOWS = 65_536
SILENT_NS = 5_000_000_000
"""When the chosen point has said nothing for so long, by the records' times, another one may take
over. Earlier or later: records may come newest first."""

_ENDS = ("proto", "src_ip", "src_port", "dst_ip", "dst_port", "icmp_type")
_TRAFFIC = frozenset({"open", "update", "close"})


class OnePoint:
    """Lets the records of each flow through from one observation point: the first that told of it.

    Remembers ``FLOWS`` flows; a forgotten one may change its point.
    """

    def __init__(self) -> None:
        self._chosen: OrderedDict[tuple[object, ...], tuple[object, int]] = OrderedDict()

    def shows(self, row: Row) -> bool:
        """Whether this record is from its flow's point."""
        kind = row.get("kind")
        flow = (kind in _TRAFFIC or kind, *(row.get(name) for name in _ENDS))
        point = (row.get("node"), row.get("interface"), row.get("reporter"))
        time = parse_rfc3339(str(row.get("time"))) or 0
        chosen, at = self._chosen.get(flow, (point, time))
        if chosen != point and abs(time - at) < SILENT_NS:
            return False
        self._chosen[flow] = (point, time)
        self._chosen.move_to_end(flow)
        if len(self._chosen) > FLOWS:
            self._chosen.popitem(last=False)
        return True
