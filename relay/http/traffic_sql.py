"""SQL that adds up traffic between ends: by what they belong to, by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flowobs.schema import Reporter
from relay.store import histogram
from relay.store.channels import Channels
from relay.store.names import NODE_FIELDS, label_sql
from relay.store.rollup import LATENCIES, SETS, merge_sets

MAX_ADDRESSES: Final = 16
LEVELS: Final = (0.5, 0.95, 0.99)
"""Quantiles of latencies."""
NUMBERS: Final = (
    "flows", "opens", "closes", "packets", "bytes", "reply_packets", "reply_bytes",
    "drops", "resets", "retransmits", "fails",
)  # fmt: skip
BOTH: Final = ("packets", "bytes", "reply_packets", "reply_bytes")
"""Counters of which a row tells what the source's side (near) and the other (far) saw."""


def totals_sql(channels: Channels, group: str, by: Sequence[str], limit: int) -> str:
    """At most ``limit`` rows that differ in ``by``: those with trouble, then the busiest first."""
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
    return f"""SELECT * FROM (SELECT {_by(channels, group, by)}, {sums},
  sumForEachIf([{path}], {both}) AS path, sumForEach([{told}]) AS told_by,
  sumMapIf(reasons, drops > 0) AS drop_reasons,
  min(first) AS first_seen, max(last) AS last_seen{latencies}
FROM ({channels.pairs_sql()})
GROUP BY {", ".join(by)})
ORDER BY drops + resets + retransmits + fails > 0 DESC, packets + reply_packets DESC
LIMIT {limit}"""


def flows_sql(channels: Channels, group: str, by: Sequence[str]) -> str:
    """Of rollups: how many flows were ``active`` and ``opened``."""
    sizes = ", ".join(f"toInt64({merge_sets(name, finish=True)}) AS {name}" for name in SETS)
    return f"""SELECT {_by(channels, group, by)}, {sizes}
FROM ({channels.sets_sql()})
GROUP BY {", ".join(by)}"""


def latencies_sql(channels: Channels, group: str, by: Sequence[str]) -> str:
    """Of rollups: quantiles, as the source's side tells them if it does."""
    values = []
    for name in LATENCIES:
        near, far = f"sumMapIf({name}, near)", f"sumMapIf({name}, NOT near)"
        values += [
            f"if(empty({near}), {far}, {near}) AS {name}_histogram",
            f"{histogram.quantiles(f'{name}_histogram', LEVELS)} AS {name}_ms",
        ]
    return f"""SELECT {", ".join((*by, *(f"{n}_ms" for n in LATENCIES)))}
FROM (SELECT {_by(channels, group, by)}, {", ".join(values)}
FROM ({channels.latencies_sql()})
GROUP BY {", ".join(by)})
WHERE notEmpty(connect_ms) OR notEmpty(rtt_ms)"""


def nodes_sql(channels: Channels, group: str) -> str:
    """What is known of each node in ``{nodes:Array(String)}``: of its newest end."""
    return f"""SELECT label AS id, argMax(({", ".join(NODE_FIELDS)}), at) AS fields,
  groupUniqArray({MAX_ADDRESSES})(ip) AS addresses
FROM (SELECT *, ({label_sql(group)}) AS label, (workload != '', last) AS at
  FROM ({channels.ends_sql()}))
WHERE label IN {{nodes:Array(String)}}
GROUP BY label"""


def _by(channels: Channels, group: str, by: Sequence[str]) -> str:
    sides = {"source": "src", "destination": "dst"}
    # One scalar for both sides: a join would look at all ends twice.
    names = f"""(SELECT (groupArray(id), groupArray(label)) FROM (
  SELECT id, argMax({label_sql(group)}, last) AS label FROM ({channels.ends_sql()}) GROUP BY id))"""
    return ", ".join(
        f"transform({sides[name]}, {names}.1, {names}.2, '') AS {name}" if name in sides else name
        for name in by
    )
