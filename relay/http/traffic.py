"""Traffic of any time and question, each flow once: the one way to numbers over many records.

found = traffic(session, filter, from_ns, to_ns, group="workload", by=("source",))
found.rows[("shop/web",)]["bytes"]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from flowobs.filters import Filter
from flowobs.schema import Reporter
from relay.http import traffic_sql
from relay.http.grouped import SIDES
from relay.http.queries import Session
from relay.http.rolled import rolled
from relay.http.traffic_sql import EDGE
from relay.store import Table
from relay.store.arrays import Array
from relay.store.asked import answerable
from relay.store.channels import Channels
from relay.store.ddl import TABLE
from relay.store.names import LABEL
from relay.store.paths import Paths
from relay.store.plan import Plan, Slice

MOST: Final = 5_000
"""Rows in one answer: those with trouble first, then those with most packets."""
_LATENCIES: Final = ("connect", "rtt")
_LEVEL_NAMES: Final = ("", "_p95", "_p99")
_PATH: Final = (
    # what the source's side counted; replies arrive there
    "sent_packets", "sent_bytes", "reply_arrived_packets", "reply_arrived_bytes",
    # what the destination's side did
    "arrived_packets", "arrived_bytes", "reply_sent_packets", "reply_sent_bytes",
)  # fmt: skip
"""Fields of a row, in the order of ``traffic_sql.totals_sql``'s ``path``."""
FIELDS: Final = (
    *traffic_sql.NUMBERS, *(f"{name}{level}_ms" for name in _LATENCIES for level in _LEVEL_NAMES),
    "drop_reasons", "reporter", "first_seen", "last_seen", *_PATH, "path_loss",
)  # fmt: skip
"""What a row tells."""

_REPORTERS: Final = (*(r for r in Reporter if r), Reporter.unknown)
_NAMES: Final = [r.name for r in _REPORTERS]

Key = tuple[Any, ...]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Columns of rows, what the rows were asked to differ in, and where they are from."""

    plan: Plan
    keys: list[Key]
    columns: dict[str, list[Any]]
    """Of each of ``FIELDS`` the values."""
    more: bool
    """There are more rows than an answer holds."""
    nodes: Table
    """What is known of the sources and destinations."""

    @property
    def rows(self) -> dict[Key, Row]:
        """By the values of what they differ in; made anew each time."""
        rows = zip(*self.columns.values(), strict=True)
        return {
            key: dict(zip(self.columns, row, strict=True))
            for key, row in zip(self.keys, rows, strict=True)
        }


def traffic(
    session: Session,
    filter: Filter,
    from_ns: int,
    to_ns: int,
    *,
    group: str = "pod",
    by: Sequence[str] = EDGE,
    step_s: int = 0,
    latency: bool = True,
    largest: tuple[str, int] | None = None,
    most: int = MOST,
    only: Sequence[Any] = (),
    new_ns: int = 0,
    nodes: bool = True,
) -> Traffic:
    """Add up what fulfils ``filter`` at ``from_ns`` <= time < ``to_ns``. Blocks; StoreError.

    Rows differ in ``by``: some of ``EDGE``; ``edge``, a tuple of these; ``end``, which is either
    end; and ``at``, the start of a step of ``step_s`` seconds (a Unix time). Ends are put together
    by ``group``, one of ``names.GROUPS`` or ``label:KEY``. The tables asked are the coarsest that
    know what the question asks for.

    With ``only``, a few dozen values of ``by[0]``, all others are one, ``traffic_sql.OTHER``. With
    ``new_ns``, rows are those first seen from then on. ``nodes=False`` leaves those out. With
    ``largest``, one of ``measures.COUNTS`` and a number, at least so many rows with most of that
    have latencies, and others need not.
    """
    plan = plan_of(session, filter, from_ns, to_ns, group, step_s)
    if plan.table == TABLE:
        channels = Channels(plan, filter, group == "process", latency, step_s)
        table, known = _of_records(session, channels, group, by, most, only, new_ns, nodes)
    else:
        paths = Paths(plan, filter, step_s)
        table, known = rolled(
            session, paths, group, by, latency, largest, most, only, new_ns, nodes
        )
    keys = list(zip(*(table[name][:most] for name in by), strict=True))
    return Traffic(plan, keys, _columns(table, most), table.rows > most, known)


def level_of(measure: str) -> tuple[str, float]:
    """Of one of ``measures.LATENCIES`` the column and the level: ``("rtt", 0.95)``."""
    latency, mark, level = measure.removesuffix("_ms").partition("_")
    return latency, traffic_sql.LEVELS[_LEVEL_NAMES.index(mark + level)]


def plan_of(
    session: Session, filter: Filter, from_ns: int, to_ns: int, group: str, step_s: int = 0
) -> Plan:
    """The coarsest tables that know what the question asks for."""
    # rollups know the ends and the channel; what asks for more is asked of the records
    if group != "process" and answerable(filter):
        step = (step_s * 10**9,) if step_s else ()
        return session.plan(from_ns, to_ns, *step)
    return Plan((Slice(TABLE, from_ns, to_ns),))


def _of_records(
    session: Session,
    channels: Channels,
    group: str,
    by: Sequence[str],
    most: int,
    only: Sequence[Any],
    new_ns: int,
    nodes: bool,
) -> tuple[Table, Table]:
    parameters = channels.parameters
    if group.startswith(LABEL):
        parameters["label"] = group.removeprefix(LABEL)
    if only:
        parameters["only"] = list(only)
    ends = traffic_sql.By(channels, group, by, bool(only))
    table = session.query(traffic_sql.totals_sql(channels, ends, most + 1, new_ns), parameters)
    nothing = [-1] * len(_PATH)
    columns: dict[str, Any] = table.columns
    columns["path"] = np.array([counts or nothing for counts in table["path"]], "<i8")
    known = Table({}, 0)
    sides = [name for name in by if name in SIDES]
    if nodes and table.rows and sides:
        used = sorted({id for name in sides for id in table[name][:most]})
        sql = traffic_sql.nodes_sql(channels, group)
        known = session.query(sql, {**parameters, "nodes": used})
    return table, known


def _columns(table: Table, most: int) -> dict[str, list[Any]]:
    """Of each of ``FIELDS`` the values."""
    if not table.rows:
        return {name: [] for name in FIELDS}
    told: dict[str, Any] = {name: values[:most] for name, values in table.columns.items()}
    out = {name: told[name] for name in traffic_sql.NUMBERS}
    for name in _LATENCIES:
        known = told.get(f"{name}_ms", [[]] * len(told["path"]))
        for i, level in enumerate(_LEVEL_NAMES):
            out[f"{name}{level}_ms"] = [ms[i] if ms else None for ms in known]
    out["drop_reasons"] = told["drop_reasons"]
    # the one that counted most of the flows; of several, the nearest to the source
    flows = np.array(told["told_by"])[:, _REPORTERS]
    out["reporter"] = [_NAMES[i] for i in flows.argmax(1).tolist()]
    out |= {name: told[name] for name in ("first_seen", "last_seen")}
    return out | dict(zip((*_PATH, "path_loss"), _paths(told["path"]), strict=True))


def _paths(counts: Array) -> list[list[int | None]]:
    """What each side sent and what arrived at the other, and how many packets did not; None where
    one of them did not tell, which is -1 in ``counts`` (rows x ``_PATH``)."""
    sent, _, reply_arrived, _, arrived, _, reply_sent, _ = counts.T
    lost = np.maximum(sent - arrived, 0) + np.maximum(reply_sent - reply_arrived, 0)
    out: list[list[int | None]] = [*counts.T.tolist(), lost.tolist()]
    for row in np.flatnonzero(sent < 0).tolist():
        for values in out:
            values[row] = None
    return out
