"""One measure of traffic: what ``traffic`` tells of it, without all the rest.

Rollups are asked so that the engine chooses the path of a channel that counts: of one measure that
takes few columns, and only sums leave it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, Final

from flowobs.filters import Filter
from flowobs.measures import COUNTS, LATENCIES
from flowobs.schema import Reporter
from relay.http.quantiles import quantiles
from relay.http.queries import Session
from relay.http.traffic import Key, plan_of, traffic
from relay.http.traffic_sql import NAMED, OTHER, By
from relay.http.trends import MOST, largest, value
from relay.store import StoreError
from relay.store.channels import score
from relay.store.ddl import TABLE
from relay.store.names import LABEL, label_sql
from relay.store.paths import Paths
from relay.store.plan import Plan, Slice
from relay.store.rollup import ENDS, KEYS, OF_PATH, SUMS

_NEAR: Final = f"reporter = {Reporter.source:d}"
_OF_UNIT: Final = {
    "drops": "sum(counted)",
    "fails": "sum(counted)",
    "resets": f"greatest(sumIf(counted, {_NEAR}), sumIf(counted, NOT {_NEAR}))",
    "retransmits": "greatest(sum(counted), argMax(again, score))",
}
"""What a channel's paths have counted; of other measures that is what the best path has."""
_GROUPS: Final = 400_000
"""About so many are in one question: more would go to disk."""
_MOST_ROWS: Final = 30_000_000
"""About half a minute's work."""
_FEW_STEPS: Final = 24
_PLACES: Final = 256
"""More than ``only`` ever names."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Values of a measure by what they were asked to differ in, and where they are from."""

    plan: Plan
    values: dict[Key, float]


def measured(
    session: Session,
    filter: Filter,
    from_ns: int,
    to_ns: int,
    measure: str,
    *,
    group: str = "pod",
    by: Sequence[str] = (),
    step_s: int = 0,
    only: Sequence[Any] = (),
    most: int = 0,
) -> Measured:
    """``measure`` (bytes, for ``rate``) of what ``traffic`` would give rows of, which says what the
    arguments are. Blocks; StoreError.

    ``by`` is nothing or one of ``DIMENSIONS``; with ``step_s`` keys end with the step's start.
    With ``most``, that many, the largest first. What has nothing is left out.
    """
    plan = plan_of(session, filter, from_ns, to_ns, group, step_s)
    keys = (*by, "at") if step_s else by
    if plan.table != TABLE and measure in COUNTS and measure != "flows":
        sums = _Sums(plan, filter, step_s, COUNTS[measure], group, keys, only)
        return Measured(plan, sums.values(session, most))
    paths = Paths(plan, filter, step_s)
    if plan.table != TABLE and measure in LATENCIES and not by and paths.by_unit:
        return Measured(plan, quantiles(session, paths, measure))
    steps = (plan.to_ns - plan.from_ns) // (step_s * 10**9) + 2 if step_s else 1
    found = traffic(
        session, filter, from_ns, to_ns, group=group, by=keys or ("proto",), step_s=step_s,
        only=only, most=(len(only) + 1) * steps if step_s else MOST,
        latency=measure in LATENCIES, nodes=False,
    )  # fmt: skip
    told = {key: value(row, measure, 1) for key, row in found.rows.items()}
    ranked = largest(told, most or len(told))
    values = {key: told[key] or 0 for key in ranked}
    # there are few protocols, and no flow has two
    return Measured(plan, values if keys else {(): sum(values.values())})


@dataclass(frozen=True, slots=True)
class _Sums(Paths):
    """SQL over rollups that adds up ``counters``."""

    counters: Sequence[str] = ()
    group: str = ""
    by: Sequence[str] = ()
    only: Sequence[Any] = ()

    def values(self, session: Session, most: int) -> dict[Key, float]:
        """By what is in ``by``. Blocks; StoreError."""
        parameters = self.parameters
        if self.group.startswith(LABEL):
            parameters["label"] = self.group.removeprefix(LABEL)
        if self.only:
            parameters["only"] = self._names
        found: dict[Key, float] = {}
        for parts in self._questions(session, parameters):
            table = session.query(self._sql(parts, most), parameters)
            columns = [table[name] for name in self.by]
            if self.only:
                columns[0] = [self.only[i - 1] if i else OTHER for i in columns[0]]
            keys: Iterable[Key] = zip(*columns, strict=True) if columns else [()] * table.rows
            found |= zip(keys, table["value"], strict=True)
        return found

    def _questions(
        self, session: Session, parameters: dict[str, object]
    ) -> Sequence[Sequence[Slice]]:
        """The slices; cut where there are many rows, because their groups would go to disk."""
        if self.steps <= _FEW_STEPS:
            return [self.plan.slices]
        found = session.query(self.sample_sql(self._piece_s), parameters)
        rows, groups = (found[name][0] for name in ("rows", "groups"))
        if rows > _MOST_ROWS:
            raise StoreError(
                f"about {rows:,} rows match: ask about a shorter time, or for less with a filter"
            )
        questions = groups // _GROUPS + 1
        return self.cut(-(-self.steps // questions)) if questions > 1 else [self.plan.slices]

    def _sql(self, parts: Sequence[Slice], most: int) -> str:
        """A row for each of what is in ``by``: its ``value``."""
        ends = [] if NAMED.isdisjoint(self.by) else ["src", "dst", "proto", "port"]
        known = {name: how for name, (_, how) in (KEYS | OF_PATH).items()}
        made = {name: known[name] for name in ("path", "channel", "reporter", *ends)}
        counted = " + ".join(self.counters)
        sums = {"counted": counted, "packets": "packets + reply_packets", "seen": "seen"}
        if counted == "retransmits":
            sums |= {"counted": "retransmit_events", "again": "again"}
        made |= {n: f"toUInt64({SUMS[n]})" for how in sums.values() for n in how.split(" + ")}
        if self.only:
            ends = ["place"]
        columns = [f"{self._place()} AS place" if name == "place" else name for name in ends]
        columns += [f"{how} AS {name}" for name, how in sums.items()]
        rows = " UNION ALL ".join(
            f"SELECT bucket, path, channel, reporter, {', '.join(columns)}"
            f" FROM {self.rows(part, made)}"
            for part in parts
        )
        piece = Paths(self.plan, self.filter, self._piece_s).at()
        paths = [f"any({name}) AS {name}" for name in ("channel", "reporter", *ends)]
        paths += [f"sum({name}) AS {name}" for name in sums]
        units = [f"{self.at('piece')} AS at"] + [f"argMax({n}, score) AS {n}" for n in ends]
        units += [f"{_OF_UNIT.get(counted, 'argMax(counted, score)')} AS counted"]
        by = ", ".join(f"`{name}`" for name in self.by)
        return f"""SELECT {self._columns()} sum(counted) AS value
FROM (SELECT {", ".join(units)}
FROM (SELECT *, {score(Reporter.source, Reporter.destination, "packets")} AS score
FROM (SELECT {piece} AS piece, path, {", ".join(paths)}
FROM ({rows})
GROUP BY piece, path))
GROUP BY piece, channel)
{f"GROUP BY {by}" if by else ""}
HAVING value > 0
{f"ORDER BY value DESC, {by} LIMIT {most}" if most else ""}"""

    @property
    def _piece_s(self) -> int:
        """For so long a path is chosen: the smaller one of unit and step."""
        return gcd(self.unit_s, self.step_s)

    def _columns(self) -> str:
        """What rows differ in."""
        if self.only:
            place = "place"
            if self.by[0] == "end":  # what stays within an end counts once
                place = f"arrayJoin(arrayDistinct([intDiv(place, {_PLACES}), place % {_PLACES}]))"
            return f"{place} AS `{self.by[0]}`, at,"
        return f"{By(self, self.group, self.by).columns}," if self.by else ""

    def _place(self) -> str:
        """Which of ``only``, from 1 on, a row is of, 0 for none of them; of both ends, as one."""
        src, dst = (self._named(side) for side in ("src", "dst"))
        match self.by[0]:
            case "source":
                return src
            case "destination":
                return dst
            case "end":
                return f"{src} * {_PLACES} + {dst}"
        code = f"bitShiftLeft({src}, 40) + bitShiftLeft({dst}, 24) + proto * 65536 + port"
        codes = [
            (self._names.index(source) + 1 << 40) + (self._names.index(destination) + 1 << 24)
            + proto * 65536 + port
            for source, destination, proto, port in self.only
        ]  # fmt: skip
        return f"transform({code}, {codes}, {list(range(1, len(codes) + 1))}, 0)"

    @property
    def _names(self) -> list[str]:
        """Names of ends that are in ``only``."""
        if self.by[0] != "edge":
            return list(self.only)
        return list(dict.fromkeys(name for edge in self.only for name in edge[:2]))

    def _named(self, side: str) -> str:
        """Which of ``_names``, from 1 on, an end has; 0 for none of them."""
        named = f"""(SELECT (groupArray(id), groupArray(toUInt64(place))) FROM (
  SELECT DISTINCT id, indexOf({{only:Array(String)}}, {label_sql(self.group)}) AS place
  FROM ({self.ends_sql()}) WHERE place > 0))"""
        return f"transform({side}, {named}.1, {named}.2, toUInt64(0))"

    def ends_sql(self) -> str:
        """A row per end, or several."""
        return f"SELECT * FROM {ENDS} WHERE {self._asked.days}"
