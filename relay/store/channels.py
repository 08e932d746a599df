"""SQL that counts each flow of records once.

Several observation points see the same flow: interfaces, both ends' nodes, hops between them. So:

1. ``rows``: what one observation point counted of a *unit*, in one piece.
2. ``points``: one row per unit and observation point, with what it counted there.
3. ``units``: one row per unit, counters of the *best* point only: one that saw packets, of the
   source if possible, else of the destination, else in transit; of several, the one with the most
   packets. Kernel events (drop, retransmit, fail) happen at one place once: all points are added
   up, also those without an interface. A reset is told by the end that sends it and by the end
   that gets it: the larger of both sides counts. Retransmits are events, of which a rate limit and
   a full ring hold some back, and numbers on the flow's records: the larger counts.

The unit is a flow. Rollups do not know flows: theirs is a channel in a stretch of time
(``paths.py``), so that the answers are equal wherever all flows of a channel have the same best
point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flowobs.filters import Filter, where
from flowobs.schema import Reporter
from relay.store import histogram
from relay.store.ddl import TABLE
from relay.store.names import NODE_FIELDS
from relay.store.plan import Plan, Slice
from relay.store.rollup import (
    FLOW,
    KEYS,
    LATENCIES,
    OF_PATH,
    REASONS,
    RECORDS,
    SUMS,
    TIMES,
    carried,
    start_of,
)

_PAIR: Final = "src, dst, proto, port"
_FROM_SOURCE: Final = f"reporter = {Reporter.source:d}"
_TO_DESTINATION: Final = f"reporter = {Reporter.destination:d}"
_COUNTS: Final = ("packets", "bytes", "reply_packets", "reply_bytes")
_FAR: Final = tuple(f"far_{name}" for name in _COUNTS)
_BEST: Final = ("opens", "closes", *_COUNTS, "again", "seen", "before")
_RESETS: Final = f"greatest(sumIf(resets, {_FROM_SOURCE}), sumIf(resets, NOT {_FROM_SOURCE}))"
_TOTALS: Final = {
    "flows": (("opens", "before"), "greatest(argMax(opens + before, score), max(seen) > 0)"),
    "resets": (("resets",), _RESETS),
    "retransmits": (
        ("retransmit_events", "again"),
        "greatest(sum(retransmit_events), argMax(again, score))",
    ),
}
"""Counters of a unit that are not the best point's: what points have to tell, and the sum."""
_EVENTS: Final = ("drops", "fails")
"""What all points are added up of."""


def score(first: Reporter, second: Reporter, packets: str = "packets + reply_packets") -> str:
    """How good a point is; the best of a unit counts."""
    # One number, because that is what argMax is fast with.
    rank = f"multiIf(reporter = {first:d}, 2, reporter = {second:d}, 1, 0)"
    return (
        f"bitOr(bitShiftLeft(toUInt64(seen > 0), 62), bitShiftLeft(toUInt64({rank}), 60))"
        f" + least({packets}, 1000000000000000000)"
    )


@dataclass(frozen=True, slots=True)
class Channels:
    """The traffic of ``plan``'s time that fulfils ``filter``, each flow once.

    All SQL that it gives takes ``parameters``.
    """

    plan: Plan
    filter: Filter
    by_process: bool = False
    """Ends are told apart by process, too."""
    latency: bool = True
    """With arrays of latencies."""
    step_s: int = 0
    """Rows are apart by ``at``, too: the start (a Unix time) of steps of that many seconds."""

    @property
    def parameters(self) -> dict[str, object]:
        """What fills the placeholders of the SQL."""
        return where(self.filter)[1]

    @property
    def _key(self) -> str:
        return f"{_PAIR}, at" if self.step_s else _PAIR

    def _at(self, bucket: str = "bucket") -> str:
        return f"intDiv(toUInt32({bucket}), {self.step_s}) * {self.step_s}"

    def pairs_sql(self) -> str:
        """A row per pair of ends (ids), protocol and port."""
        names = ("closes", "opens", *_COUNTS, "drops", "resets", "fails", *_FAR)
        sums = ", ".join(f"sum({name}) AS {name}" for name in names)
        near = ", ".join(f"sumIf({n}, {_FROM_SOURCE}) AS near_{n}" for n in _COUNTS)
        weights = ", ".join(
            f"sumIf(greatest(opens, seen, 1), reporter = {r:d}) AS by_{r.name}" for r in Reporter
        )
        samples = "".join(f", groupArrayArray({n}) AS {n}" for n in self.samples)
        at = f", {self._at()} AS at" if self.step_s else ""
        return f"""SELECT {_PAIR}{at}, {sums}, {near}, {weights},
  sum(greatest(opens + before, toUInt64(seen > 0))) AS flows,
  sum(greatest(retransmit_events, again)) AS retransmits,
  sumMapArray(reasons) AS reasons, min(first) AS first, max(last) AS last{samples}
FROM ({self._units_sql()})
GROUP BY {self._key}"""

    @property
    def samples(self) -> tuple[str, ...]:
        """The latencies of which rows have arrays."""
        return tuple(LATENCIES) if self.latency else ()

    def _units_sql(self) -> str:
        best = ", ".join(
            f"argMax(p.{n}, p.score) AS {n}" for n in ("src", "reporter", *_BEST, *self.samples)
        )
        far = ", ".join(f"maxIf(p.{n}, p.{_TO_DESTINATION}) AS far_{n}" for n in _COUNTS)
        # the process of an end is known on its own side only
        dst = "dst_score" if self.by_process else "score"
        return f"""SELECT any(p.bucket) AS bucket, any(p.proto) AS proto, any(p.port) AS port,
  {best}, argMax(p.dst, p.{dst}) AS dst, {far},
  sum(p.drops) AS drops, sum(p.fails) AS fails, sum(p.retransmit_events) AS retransmit_events,
  greatest(sumIf(p.resets, p.{_FROM_SOURCE}), sumIf(p.resets, NOT p.{_FROM_SOURCE})) AS resets,
  groupArrayArray(p.reasons) AS reasons, min(p.first) AS first, max(p.last) AS last
FROM ({self._points_sql()}) AS p
GROUP BY p.unit"""

    def _points_sql(self) -> str:
        sums = ", ".join(f"sum(r.{name}) AS {name}" for name in SUMS if name != "records")
        times = ", ".join(f"{how}(r.{name}) AS {name}" for name, how in TIMES.items())
        times += ", max(r.before) AS before"
        samples = "".join(
            f", groupArrayIf({histogram.bucket(f'r.{n}')}, r.{n} > 0) AS {n}" for n in self.samples
        )
        # not every record of a flow tells whose its sockets are
        newest = "(r.{0}_told, r.last)" if self.by_process else "r.last"
        ends = [f"argMax(r.{end}, {newest.format(end)}) AS {end}" for end in ("src", "dst")]
        # one number is the quickest key; of what does not differ, any will do
        return f"""SELECT *, {score(Reporter.source, Reporter.destination)} AS score,
  {score(Reporter.destination, Reporter.source)} AS dst_score
FROM (SELECT any(r.unit) AS unit, any(r.bucket) AS bucket, any(r.proto) AS proto,
  any(r.port) AS port, any(r.reporter) AS reporter,
  {", ".join(ends)}, {sums}, {times},
  groupArrayIf(r.drop_reasons, r.drops > 0) AS reasons{samples}
FROM ({self._rows_sql()}) AS r
GROUP BY cityHash64(r.unit, r.reporter, r.node, r.interface))"""

    def _rows_sql(self) -> str:
        values = [f"{self._bucket} AS bucket", *self._keys()]
        values += [f"toUInt64({how}) AS {name}" for name, how in SUMS.items()]
        values += [f"time AS {name}" for name in TIMES]
        begin = str(self.plan.from_ns // 10**9)
        begin = f"greatest({begin}, {self._bucket})" if self.step_s else begin
        values += [f"toUInt64({carried(begin)}) AS before"]
        values += [f"{REASONS} AS drop_reasons"]
        values += [f"cityHash64({FLOW}, bucket) AS unit" if self.step_s else f"{FLOW} AS unit"]
        values += [f"{LATENCIES[name]} AS {name}" for name in self.samples]
        if self.by_process:
            values += [f"{side}_process != '' AS {side}_told" for side in ("src", "dst")]
        rows = f"SELECT {', '.join(values)} FROM {TABLE}"
        return " UNION ALL ".join(f"{rows} WHERE {self._in(part)}" for part in self.plan.slices)

    @property
    def _bucket(self) -> str:
        minute = start_of("Minute")
        return self._at("toDateTime(time, 'UTC')") if self.step_s else minute

    def total_sql(self, counters: Sequence[str]) -> str:
        """A row per ``at``: the ``value`` of ``counters``, of all traffic; what has none may be
        left out."""
        what = " + ".join(counters)
        if what in _EVENTS:
            return (
                f"SELECT at, sum({what}) AS value FROM ({self._step_rows_sql(counters)}"
                f" WHERE {what} > 0) GROUP BY at"
            )
        names, value = _TOTALS.get(what, (counters, f"argMax({what}, score)"))
        sums = [f"{'max' if name == 'before' else 'sum'}({name}) AS {name}" for name in names]
        return (
            f"SELECT at, sum(value) AS value FROM (SELECT any(at) AS at, {value} AS value"
            f" FROM ({self._step_points_sql(names, sums)}) GROUP BY unit) GROUP BY at"
        )

    def latency_sql(self, latency: str) -> str:
        """A row per ``at``: the ``buckets`` of all samples of all traffic."""
        points = self._step_points_sql(
            (latency,),
            [f"groupArrayIf({histogram.bucket(latency)}, {latency} > 0) AS buckets"],
        )
        return (
            "SELECT at, groupArrayArray(buckets) AS buckets FROM (SELECT any(at) AS at,"
            f" argMax(buckets, score) AS buckets FROM ({points}) GROUP BY unit) GROUP BY at"
        )

    def _step_points_sql(self, names: Sequence[str], values: Sequence[str]) -> str:
        """A row per unit and point, which has ``values`` of some columns that ``names`` are."""
        sums = ("packets", "reply_packets", "seen")
        known = [f"sum({name}) AS {name}" for name in sums if name not in names]
        keys = ", ".join(f"any({name}) AS {name}" for name in ("unit", "at", "reporter"))
        rows = self._step_rows_sql((*sums, *(name for name in names if name not in sums)))
        return (
            f"SELECT *, {score(Reporter.source, Reporter.destination)} AS score"
            f" FROM (SELECT {keys}, {', '.join([*known, *values])} FROM ({rows})"
            " GROUP BY cityHash64(unit, reporter, node, interface))"
        )

    def _step_rows_sql(self, names: Sequence[str]) -> str:
        begin = f"greatest({self.plan.from_ns // 10**9}, at)"
        made = SUMS | LATENCIES | {"before": carried(begin)}
        values = [f"{self._bucket} AS at", f"cityHash64({FLOW}, at) AS unit"]
        values += ["reporter", "node", "interface"]
        values += [f"toUInt64({made[name]}) AS {name}" for name in names]
        rows = f"SELECT {', '.join(values)} FROM {TABLE}"
        pieces = " UNION ALL ".join(f"{rows} WHERE {self._in(p)}" for p in self.plan.slices)
        return f"SELECT * FROM ({pieces})"

    def _keys(self) -> list[str]:
        made = {name: how for name, (_, how) in (KEYS | OF_PATH).items()}
        if self.by_process:
            for side in ("src", "dst"):
                made[side] = f"cityHash64({made[side]}, {side}_process)"
        return [f"{how} AS {name}" if how != name else name for name, how in made.items()]

    def _in(self, part: Slice) -> str:
        low, high = (f"fromUnixTimestamp64Nano({ns}, 'UTC')" for ns in (part.from_ns, part.to_ns))
        return f"time >= {low} AND time < {high} AND {RECORDS} AND ({where(self.filter)[0]})"

    def ends_sql(self) -> str:
        """A row per end, or several: ``id``, ``ip``, attributes, when it was ``last`` seen."""
        pieces = []
        for side in ("src", "dst"):
            end = KEYS[side][1]
            id = f"cityHash64({end}, {side}_process)" if self.by_process else end
            own = ", ".join(f"{side}_{name} AS {name}" for name in ("ip", "process", *NODE_FIELDS))
            pieces += [
                f"SELECT {id} AS id, time AS last, {own} FROM {TABLE}"
                f" WHERE {self._in(part)} LIMIT 1 BY id"
                for part in self.plan.slices
            ]
        return " UNION ALL ".join(f"SELECT * FROM ({piece})" for piece in pieces)
