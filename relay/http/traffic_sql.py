"""SQL that adds up traffic of records: by what its ends belong to, by time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from flowobs.schema import Reporter
from relay.store import histogram
from relay.store.channels import Channels
from relay.store.names import SHOWN, label_sql
from relay.store.paths import MAX_ADDRESSES

LEVELS: Final = (0.5, 0.95, 0.99)
"""Quantiles of latencies."""
NUMBERS: Final = (
    "flows", "opens", "closes", "packets", "bytes", "reply_packets", "reply_bytes",
    "drops", "resets", "retransmits", "fails",
)  # fmt: skip
BOTH: Final = ("packets", "bytes", "reply_packets", "reply_bytes")
"""Counters of which a row tells what the source's side (near) and the other (far) saw."""
EDGE: Final = ("source", "destination", "proto", "port")
NAMED: Final = frozenset(("source", "destination", "end", "edge"))
"""What rows may differ in that needs the names of ends."""
OTHER: Final = "\n"
"""Stands for all ends but some; no name is a line break."""


class Ends(Protocol):
    """Whoever has ends' ids and knows who they are."""

    def ends_sql(self) -> str:
        """A row per end, or several: ``id``, ``ip``, attributes, when it was ``last`` seen."""


@dataclass(frozen=True, slots=True)
class By:
    """What rows of ``of`` differ in: ``by``, of ends put together by ``group``."""

    of: Ends
    group: str
    by: Sequence[str]
    only: bool = False
    """Values of ``by[0]`` that are not in the parameter ``only`` are one."""

    @property
    def keys(self) -> str:
        return ", ".join(f"`{name}`" for name in self.by)

    @property
    def columns(self) -> str:
        """To SELECT from ids of ends, protocol and port."""
        return ", ".join(
            f"{how} AS `{name}`" if how != name else name
            for name, how in ((name, self._made(name)) for name in self.by)
        )

    def _made(self, name: str) -> str:
        source, destination = self._end("src"), self._end("dst")
        match name:
            case "source":
                return self._kept(source)
            case "destination":
                return self._kept(destination)
            case "end":  # what stays within an end counts once
                both = f"{self._kept(source)}, {self._kept(destination)}"
                return f"arrayJoin(arrayDistinct([{both}]))"
            case "edge":
                return self._kept(f"({source}, {destination}, proto, port)", edge=True)
        return name

    def _end(self, side: str) -> str:
        # One scalar for both sides: a join would look at all ends twice.
        names = f"""(SELECT (groupArray(id), groupArray(label)) FROM (
  SELECT id, argMax({label_sql(self.group)}, last) AS label FROM ({self.of.ends_sql()})
  GROUP BY id))"""
        return f"transform({side}, {names}.1, {names}.2, '')"

    def _kept(self, value: str, edge: bool = False) -> str:
        if not self.only:
            return value
        type, other = "String", "'\\n'"
        if edge:
            type, other = "Tuple(String, String, UInt8, UInt16)", f"({other}, {other}, 0, 0)"
        return f"if(has({{only:Array({type})}}, {value}), {value}, {other})"


def totals_sql(channels: Channels, ends: By, limit: int, new_ns: int = 0) -> str:
    """At most ``limit`` rows: those with trouble, then the busiest first; with ``new_ns`` only
    what was first seen from then on."""
    sums = ", ".join(f"sum({name}) AS {name}" for name in NUMBERS)
    # Arrays, because each more column costs the engine a millisecond to plan. Pairs of which one
    # side did not report would look like loss.
    both = "near_packets + near_reply_packets > 0 AND far_packets + far_reply_packets > 0"
    path = ", ".join(f"{side}_{name}" for side in ("near", "far") for name in BOTH)
    told = ", ".join(f"by_{r.name}" for r in Reporter)
    latencies = "".join(
        f", {histogram.of_samples(f'groupArrayArray({name})')} AS {name}_histogram,"
        f" {histogram.quantiles(f'{name}_histogram', LEVELS)} AS {name}_ms"
        for name in channels.samples
    )
    new = f"\nHAVING first_seen >= fromUnixTimestamp64Nano({new_ns}, 'UTC')" if new_ns else ""
    return f"""SELECT * FROM (SELECT {ends.columns}, {sums},
  sumForEachIf([{path}], {both}) AS path, sumForEach([{told}]) AS told_by,
  sumMapIf(reasons, drops > 0) AS drop_reasons,
  min(first) AS first_seen, max(last) AS last_seen{latencies}
FROM ({channels.pairs_sql()})
GROUP BY {ends.keys}{new})
ORDER BY drops + resets + retransmits + fails > 0 DESC, packets + reply_packets DESC
LIMIT {limit}"""


def nodes_sql(channels: Channels, group: str) -> str:
    """What is known of each node in ``{nodes:Array(String)}``: of its newest end."""
    return f"""SELECT label AS id, argMax(({", ".join(SHOWN)}), at) AS fields,
  groupUniqArray({MAX_ADDRESSES})(reinterpretAsFixedString(ip)) AS addresses
FROM (SELECT *, ({label_sql(group)}) AS label, (workload != '', last) AS at
  FROM ({channels.ends_sql()}))
WHERE label IN {{nodes:Array(String)}}
GROUP BY label"""
