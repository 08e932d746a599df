"""Flow records from the store."""

from __future__ import annotations

from flowobs.filters import Filter, where
from relay.http.queries import Session
from relay.lines import table_lines
from relay.store.ddl import COLUMN_LIST, TABLE


def newest(session: Session, filter: Filter, limit: int) -> list[bytes]:
    """Lines of the newest ``limit`` records that match, newest first. Raises StoreError.

    A flow of one packet opens and is counted at the same time: by kind, the opening comes first.
    """
    condition, parameters = where(filter)
    table = session.query(
        f"SELECT {COLUMN_LIST} FROM {TABLE} WHERE {condition}"
        f" ORDER BY time DESC, kind DESC LIMIT {limit:d}",
        parameters,
    )
    return table_lines(table.columns, table.rows)
