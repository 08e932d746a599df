"""One measure of traffic: what ``traffic`` tells of it, without all the rest.

Of rollups, one measure takes few columns: ``sums.py`` and ``quantiles.py`` ask for these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowobs.filters import Filter
from flowobs.measures import COUNTS, LATENCIES
from relay.http.quantiles import quantiles
from relay.http.queries import Session
from relay.http.steps import steps
from relay.http.sums import Sums
from relay.http.traffic import Key, plan_of, traffic
from relay.http.trends import MOST, largest, value
from relay.store.channels import Channels
from relay.store.ddl import TABLE
from relay.store.paths import Paths
from relay.store.plan import Plan


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
    if plan.table == TABLE and step_s and not by:
        return Measured(plan, steps(session, Channels(plan, filter, step_s=step_s), measure))
    paths = Paths(plan, filter, step_s)
    if plan.table != TABLE and measure in COUNTS and measure != "flows":
        sums = Sums(session, paths, COUNTS[measure], group, by[0] if by else "", only)
        return Measured(plan, sums.values(most))
    if plan.table != TABLE and measure in LATENCIES and not by and paths.by_unit:
        return Measured(plan, quantiles(session, paths, measure))
    points = (plan.to_ns - plan.from_ns) // (step_s * 10**9) + 2 if step_s else 1
    found = traffic(
        session, filter, from_ns, to_ns, group=group, by=keys or ("proto",), step_s=step_s,
        only=only, most=(len(only) + 1) * points if step_s else MOST,
        latency=measure in LATENCIES, nodes=False,
    )  # fmt: skip
    told = {key: value(row, measure, 1) for key, row in found.rows.items()}
    ranked = largest(told, most or len(told))
    values = {key: told[key] or 0 for key in ranked}
    # there are few protocols, and no flow has two
    return Measured(plan, values if keys else {(): sum(values.values())})
