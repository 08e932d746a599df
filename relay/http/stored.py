"""Flow records from the store."""

from __future__ import annotations

from typing import Final

from flowobs.filters import Filter, where
from relay.http.errors import ApiError
from relay.http.queries import Session
from relay.lines import table_lines
from relay.store.ddl import COLUMN_LIST, TABLE

CROWD_ROWS: Final = 20_000
"""More records of one time are too many for an answer that is held in memory."""


def nearest(session: Session, filter: Filter, newest: bool, limit: int) -> list[bytes]:
    """Lines of the newest (else oldest) ``limit`` records that match, and of all that have the last
    one's time, in order of time. Raises StoreError, and ApiError where those are a crowd."""
    condition, parameters = where(filter)
    lines: list[bytes] = []
    for table in session.stream(
        f"SELECT {COLUMN_LIST} FROM {TABLE} WHERE {condition}"
        f" ORDER BY time {'DESC' if newest else 'ASC'} LIMIT {limit:d} WITH TIES",
        parameters,
    ):
        lines += table_lines(table.columns, table.rows)
        if len(lines) > limit + CROWD_ROWS:
            raise ApiError(
                400,
                f"more than {CROWD_ROWS:,} records have one time: take them as csv or arrow, or"
                " ask for some of them",
            )
    return lines


def count(session: Session, filter: Filter) -> int:
    """How many stored records match. Raises StoreError."""
    condition, parameters = where(filter)
    found = session.query(f"SELECT count() AS n FROM {TABLE} WHERE {condition}", parameters)
    return int(found["n"][0])
