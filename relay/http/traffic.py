"""Traffic of any time and question, each flow once: the one way to numbers over many records.

found = traffic(session, filter, from_ns, to_ns, group="workload", by=("source",))
found.rows[("shop/web",)]["bytes"]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

from flowobs.filters import Filter
from flowobs.schema import Reporter
from relay.http import traffic_sql
from relay.http.grouped import SIDES
from relay.http.queries import Session
from relay.http.rolled import rolled
from relay.http.traffic_sql import EDGE
from relay.store import Table
from relay.store.asked import answerable
from relay.store.channels import Channels
from relay.store.ddl import TABLE
from relay.store.names import LABEL
from relay.store.paths import Paths
from relay.store.plan import Plan, Slice

MOST: Final = 5_000
"""Rows in one answer: those with trouble first, then those with most packets."""
_LEVELS: Final = ("", "_p95", "_p99")
_PATH: Final = (
    # what the source's side counted; replies arrive there
    "sent_packets", "sent_bytes", "reply_arrived_packets", "reply_arrived_bytes",
    # what the destination's side did
    "arrived_packets", "arrived_bytes", "reply_sent_packets", "reply_sent_bytes",
)  # fmt: skip
"""Fields of a row, in the order of ``traffic_sql.totals_sql``'s ``path``."""

_UNTOLD: Final = (None,) * (len(_PATH) + 1)

_REPORTERS: Final = (*(r for r in Reporter if r), Reporter.unknown)

Key = tuple[Any, ...]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Rows by the values of what they were asked to differ in, and where they are from."""

    plan: Plan
    rows: dict[Key, Row]
    more: bool
    """There are more rows than an answer holds."""
    nodes: Table
    """What is known of the sources and destinations."""


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
    ``new_ns``, rows are those first seen from then on. ``nodes=False`` leaves those out.
    """
    plan = plan_of(session, filter, from_ns, to_ns, group, step_s)
    if plan.table == TABLE:
        channels = Channels(plan, filter, group == "process", latency, step_s)
        table, known = _of_records(session, channels, group, by, most, only, new_ns, nodes)
    else:
        paths = Paths(plan, filter, step_s)
        table, known = rolled(session, paths, group, by, latency, most, only, new_ns, nodes)
    return Traffic(plan, _rows(table, by, most), table.rows > most, known)


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
    known = Table({}, 0)
    sides = [name for name in by if name in SIDES]
    if nodes and table.rows and sides:
        used = sorted({id for name in sides for id in table[name][:most]})
        sql = traffic_sql.nodes_sql(channels, group)
        known = session.query(sql, {**parameters, "nodes": used})
    return table, known


def _rows(table: Table, by: Sequence[str], most: int) -> dict[Key, Row]:
    if not table.rows:
        return {}
    columns = {name: table[name][:most] for name in table.columns}
    values: dict[str, Iterable[Any]] = {name: columns[name] for name in traffic_sql.NUMBERS}
    for name in ("connect", "rtt"):
        known = columns.get(f"{name}_ms", ())
        for i, level in enumerate(_LEVELS):
            of_level = [ms[i] if ms else None for ms in known]
            values[f"{name}{level}_ms"] = of_level or repeat(None)
    values |= {
        "drop_reasons": map(dict, columns["drop_reasons"]),
        "reporter": map(_reporter, columns["told_by"]),
        "first_seen": columns["first_seen"],
        "last_seen": columns["last_seen"],
    }
    paths = zip(*map(_path, columns["path"]), strict=True)
    values |= zip((*_PATH, "path_loss"), paths, strict=True)
    keys = zip(*(columns[name] for name in by), strict=True)
    rows = zip(*values.values(), strict=False)
    return {key: dict(zip(values, row, strict=True)) for key, row in zip(keys, rows, strict=True)}


def _reporter(flows: list[int]) -> str:
    """The one that counted most of the flows; of several, the nearest to the source."""
    return max(_REPORTERS, key=lambda r: flows[r]).name


def _path(counts: list[int]) -> Sequence[int | None]:
    """What each side sent and what arrived at the other; None where one of them did not tell."""
    if not counts:
        return _UNTOLD
    sent, _, reply_arrived, _, arrived, _, reply_sent, _ = counts
    return (*counts, max(0, sent - arrived) + max(0, reply_sent - reply_arrived))
