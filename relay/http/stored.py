"""Flow records from the store."""

from __future__ import annotations

from flowobs.filters import Filter, where
from relay.http.queries import Session
from relay.lines import table_lines
from relay.store.ddl import COLUMN_LIST, TABLE


def nearest(session: Session, filter: Filter, newest: bool, limit: int) -> list[bytes]:
    """Lines of the newest (else oldest) ``limit`` records that match, and of all that have the last
    one's time, in order of time. Raises StoreError."""
    condition, parameters = where(filter)
    table = session.query(
        f"SELECT {COLUMN_LIST} FROM {TABLE} WHERE {condition}"
        f" ORDER BY time {'DESC' if newest else 'ASC'} LIMIT {limit:d} WITH TIES",
        parameters,
    )
    return table_lines(table.columns, table.rows)


def count(session: Session, filter: Filter) -> int:
    """How many stored records match. Raises StoreError."""
    condition, parameters = where(filter)
    found = session.query(f"SELECT count() AS n FROM {TABLE} WHERE {condition}", parameters)
    return int(found["n"][0])
