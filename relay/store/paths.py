"""SQL over rollups: what each path counted. Flat, because a deep question takes long to plan.

Of the paths of a channel one is counted (``relay/http/rolled.py`` chooses it). Where that told of
some *units* of time only, one is chosen for each unit: where one side's agent is gone, the other
side counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flowobs.filters import Filter, where
from flowobs.schema import Reporter
from relay.store import histogram
from relay.store.arrays import Array
from relay.store.asked import Where, asked
from relay.store.ddl import TABLE
from relay.store.names import SHOWN, label_sql
from relay.store.plan import Plan, Slice
from relay.store.rollup import (
    CARRIED,
    ENDS,
    KEYS,
    LATENCIES,
    OF_PATH,
    REASONS,
    RECORDS,
    ROLLUPS,
    SUMS,
    TIMES,
    carried,
    start_of,
)

MOST: Final = 1_000_000
"""Paths and units of one question: more would not fit into memory."""
COUNTED: Final = tuple(name for name in SUMS if name != "records")
MAX_ADDRESSES: Final = 16
_UNITS_S: Final = (300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400, 30 * 86_400)
_UNITS: Final = 24
_STEPS: Final = 24
"""Steps of one question: five times as many took six times as long, for groups went to disk."""
_QUESTIONS: Final = 6
"""About as many at most: each costs some milliseconds, however little it reads."""
_FEW: Final = 100_000
"""Groups that one question may have, however many steps: it is sooner planned than several."""
_SAMPLE: Final = 4
"""Pieces of the time from which the numbers of rows and groups are estimated."""
_SUMMED: Final = 300_000
"""Histograms that a question has as they are: three times as fast as when the engine adds them
up, but those of a month do not fit into memory."""
_LISTED: Final = 5_000
"""Numbers that a question lists at most; it asks for all where there are more."""

_CARRIED: Final = "groupUniqArrayArray(carried)", "groupUniqArrayIf(flow, before)"
"""Flows that were open before: of rollups, which list a long one in each bucket; of records."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The traffic of ``plan``'s time that fulfils ``filter``, which must be ``answerable``.

    All SQL that it gives takes ``parameters``. Rows are apart by ``at``: the start (a Unix time) of
    steps of ``step_s`` seconds, or 0.
    """

    plan: Plan
    filter: Filter
    step_s: int = 0

    @property
    def parameters(self) -> dict[str, object]:
        """What fills the placeholders of the SQL."""
        return {**where(self.filter)[1], **self._asked.parameters}

    @property
    def _asked(self) -> Where:
        return asked(self.filter, self.plan.from_ns, self.plan.to_ns)

    @property
    def begin_s(self) -> int:
        """The time's first second."""
        return self.plan.from_ns // 10**9

    @property
    def unit_s(self) -> int:
        """How long a unit is: a twenty-fourth of the time, and at least five minutes."""
        seconds = (self.plan.slices[-1].to_ns - self.plan.from_ns) // 10**9
        return next((u for u in _UNITS_S if seconds <= u * _UNITS), _UNITS_S[-1])

    def sample_sql(self, piece_s: int) -> str:
        """About how many ``rows`` there are, and ``groups`` of a path and ``piece_s`` seconds, by
        some pieces of the longest slice of a rollup."""
        known = [part for part in self.plan.slices if part.table != TABLE]
        part = max(known, key=lambda part: part.to_ns - part.from_ns)
        seconds = next(rollup.seconds for rollup in ROLLUPS if rollup.name == part.table)
        piece_s = max(seconds, piece_s)
        pieces = range(part.from_ns // 10**9 // piece_s * piece_s, part.to_ns // 10**9, piece_s)
        sample = pieces[:: -(-len(pieces) // _SAMPLE)]
        buckets = [at for begin in sample for at in range(begin, begin + piece_s, seconds)]
        all_of = f"{len(pieces)}, {len(sample)}"
        groups = f"uniq(intDiv(toUInt32(bucket), {piece_s}), path)"
        return (
            f"SELECT intDiv(count() * {all_of}) AS rows, intDiv({groups} * {all_of}) AS groups"
            f" FROM {self.rows(part, {}, f'bucket IN {(*buckets, 0)}')}"
        )

    def counts_sql(self, apart: Array | None = None, groups: int = MOST) -> Iterator[str]:
        """A row per ``at``, path, both ends and slice; at most ``MOST`` + 1 of each slice.

        There are about so many ``groups`` in all: few are in one piece of SQL.
        Bits of ``units`` say in which units there was traffic. With ``apart``, some channels, a row
        is of one ``unit`` of theirs.
        """
        unit = "toUInt32(0)" if apart is None else _start(self.unit_s)
        values = [f"{self.at()} AS at", f"{unit} AS unit", *KEYS]
        values += [f"any({name}) AS {name}" for name in ("channel", "reporter", "proto", "port")]
        values += [f"sum({name}) AS {name}" for name in COUNTED]
        values += [f"{how}({name}) AS {name}" for name, how in TIMES.items()]
        first = self.begin_s // self.unit_s
        nth = f"toUInt8(least(intDiv(toUInt32(bucket), {self.unit_s}) - {first}, 63))"
        values.append(f"groupBitOr(if(seen > 0, bitShiftLeft(toUInt64(1), {nth}), 0)) AS units")
        values.append("sumMapIf(drop_reasons, drops > 0) AS drop_reasons")
        made = {name: how for name, (_, how) in (KEYS | OF_PATH).items()}
        made |= {name: SUMS[name] for name in COUNTED} | dict.fromkeys(TIMES, "time")
        since = f"greatest({self.begin_s}, toUnixTimestamp({start_of('Minute')}))"
        made["drop_reasons"] = REASONS
        made |= {"flow": CARRIED, "before": carried(since)}
        listed = "1"
        if apart is not None and len(apart) <= _LISTED:
            listed = _among("channel", apart)
        for parts in self.stretches(groups):
            pieces = [
                f"SELECT {', '.join(values)}, {_CARRIED[part.table == TABLE]} AS carried"
                f" FROM {self.rows(part, made, listed)}"
                f" GROUP BY at, unit, {', '.join(KEYS)} LIMIT {MOST + 1}"
                for part in parts
            ]
            yield " UNION ALL ".join(pieces)

    @property
    def by_unit(self) -> bool:
        """Whether a path is chosen for each unit anyway, because steps are parts of units."""
        return self.step_s > 0 and self.unit_s % self.step_s == 0

    @property
    def cuts(self) -> bool:
        """Whether there are many steps: of some more paths, groups would not fit into memory."""
        return self.steps > _STEPS

    def stretches(self, groups: int) -> Sequence[Sequence[Slice]]:
        """Slices of a question each; there are about so many ``groups`` in all."""
        if groups <= _FEW or not self.cuts:
            return [self.plan.slices]
        return self.cut(min(_QUESTIONS, -(-self.steps // _STEPS)))

    @property
    def steps(self) -> int:
        """How many there are, the first and the last perhaps in part."""
        if not self.step_s:
            return 1
        step = self.step_s * 10**9
        return -(-self.plan.to_ns // step) - self.plan.from_ns // step

    def cut(self, questions: int) -> list[list[Slice]]:
        """The slices of so many stretches of whole steps, or fewer."""
        step = self.step_s * 10**9
        length = -(-self.steps // questions) * step
        begin = self.plan.from_ns // step * step
        last = (self.plan.to_ns - 1 - begin) // length
        found: dict[int, list[Slice]] = {}
        for part in self.plan.slices:
            for i in range(last + 1):
                low = max(part.from_ns, begin + i * length)
                # what is after now belongs to the last one
                high = part.to_ns if i == last else min(part.to_ns, begin + (i + 1) * length)
                if low < high:
                    found.setdefault(i, []).append(Slice(part.table, low, high))
        return list(found.values())

    def latencies_sql(
        self, others: Array, points: int, groups: int = MOST, told: Array | None = None
    ) -> Iterator[str]:
        """A row per ``at``, path and slice: buckets of its histograms and how many are in each; a
        bucket may come twice. There are about so many ``points``, and ``groups`` in all.

        Of each channel it has the source's side; of ``others``, some channels, all sides. With
        ``told``, only these channels are needed.
        """
        if told is not None:
            others = np.intersect1d(others, told)
        for parts in self.stretches(groups):
            pieces = [
                self._latencies(part, others, told, self._summed(part, points)) for part in parts
            ]
            yield " UNION ALL ".join(pieces)

    def _summed(self, part: Slice, points: int) -> bool:
        """Whether the engine should add up histograms, of so many ``points`` (path and step)."""
        if part.table == TABLE:
            return False
        seconds = next(rollup.seconds for rollup in ROLLUPS if rollup.name == part.table)
        buckets = (part.to_ns - part.from_ns) // (seconds * 10**9)
        return points * (min(buckets, self.step_s // seconds) or buckets) > _SUMMED

    def _latencies(self, part: Slice, others: Array, told: Array | None, summed: bool) -> str:
        path, channel, at, values = "path", "channel", self.at(), list(LATENCIES)
        if part.table == TABLE:
            path, channel = KEYS["path"][1], OF_PATH["channel"][1]
            at = self.at(start_of("Minute"))
            values = [f"{ns} AS {name}" for name, ns in LATENCIES.items()]
        side = f"reporter = {Reporter.source:d}"
        if len(others) > _LISTED:
            side = "1"
        elif len(others):
            side += f" OR {_among(channel, others)}"
        if told is not None and len(told) <= _LISTED:
            side = f"({side}) AND {_among(channel, told)}"
        arrays = []
        for name in LATENCIES:
            # half of the bytes take a quarter of the time off; an hour has fewer
            counts = f"groupArrayArray(CAST(mapValues({name}), 'Array(UInt32)'))"
            buckets = f"groupArrayArray(mapKeys({name}))"
            if summed:
                counts = f"CAST(mapValues(sumMap({name})), 'Array(UInt32)')"
                buckets = f"mapKeys(sumMap({name}))"
            if part.table == TABLE:
                buckets = f"groupArrayIf({histogram.bucket(name)}, {name} > 0)"
                counts = f"arrayWithConstant(length({buckets}), toUInt32(1))"
            arrays += [f"{buckets} AS {name}_buckets", f"{counts} AS {name}_counts"]
        return (
            f"SELECT at, path, {', '.join(arrays)} FROM (SELECT {at} AS at, {path} AS path,"
            f" {', '.join(values)} FROM {part.table} WHERE {self._in(part)} AND ({side}))"
            " GROUP BY at, path"
        )

    def nodes_sql(self, group: str, ids: Array) -> str:
        """A row per node of ``group`` and attributes of its ends: their ``ids`` and ``ips``."""
        # a day may have hundreds of thousands, of which few are asked for
        listed = f" AND {_among('id', ids)}" if len(ids) <= _LISTED else ""
        return f"""SELECT label, fields, groupArray(id) AS ids, groupArray(address) AS ips
FROM (SELECT id, reinterpretAsFixedString(ip) AS address, ({", ".join(SHOWN)}) AS fields,
  ({label_sql(group)}) AS label
  FROM {ENDS} WHERE {self._asked.days}{listed} LIMIT 1 BY id)
GROUP BY label, fields"""

    def rows(self, part: Slice, made: dict[str, str], condition: str = "1") -> str:
        """SQL that follows on FROM; of records, columns are ``made``."""
        if part.table != TABLE:  # without a SELECT of its own, which takes as long to plan
            return f"{part.table} WHERE {self._in(part)} AND {condition}"
        values = ", ".join(f"{how} AS {name}" for name, how in made.items())
        rows = f"SELECT {start_of('Minute')} AS bucket, {values} FROM {TABLE}"
        return f"({rows} WHERE {self._in(part)}) WHERE {condition}"

    def at(self, bucket: str = "bucket") -> str:
        """SQL for the start of a bucket's step."""
        return _start(self.step_s, bucket) if self.step_s else "toUInt32(0)"

    def _in(self, part: Slice) -> str:
        if part.table != TABLE:
            low, high = (f"toDateTime({ns // 10**9}, 'UTC')" for ns in (part.from_ns, part.to_ns))
            return f"bucket >= {low} AND bucket < {high} AND ({self._asked.condition})"
        low, high = (f"fromUnixTimestamp64Nano({ns}, 'UTC')" for ns in (part.from_ns, part.to_ns))
        return f"time >= {low} AND time < {high} AND {RECORDS} AND ({where(self.filter)[0]})"


def _start(seconds: int, bucket: str = "bucket") -> str:
    return f"toUInt32(intDiv(toUInt32({bucket}), {seconds}) * {seconds})"


def _among(column: str, values: Array) -> str:
    return f"{column} IN ({', '.join(map(str, values.tolist()))})" if len(values) else "0"


def keys(columns: dict[str, Array], *names: str) -> Array:
    """Numbers by which rows are told apart that differ in ``names``, of which one is a hash."""
    mixed = np.zeros(len(columns[names[0]]), "<u8")
    for name in names:
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + columns[name].astype("<u8")
    return mixed
