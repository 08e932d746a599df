"""What each table of a store says of how many records there are: counted URL."""

from __future__ import annotations

import sys

from relay.store import Store
from relay.store.rollup import ENDS, ROLLUPS


def counted(store: Store) -> list[int]:
    """Records, distinct ones (by ``src_cookie``), those of each rollup, ends."""
    questions = [
        "SELECT count() AS n FROM flows",
        "SELECT uniqExact(src_cookie) AS n FROM flows",
        *(f"SELECT sum(records) AS n FROM {rollup.name}" for rollup in ROLLUPS),
        f"SELECT uniqExact(id) AS n FROM {ENDS}",
    ]
    query = store.reader(size=1).query
    return [int(query(question)["n"][0]) for question in questions]


if __name__ == "__main__":
    opened = Store.open(sys.argv[1])
    print(*counted(opened))
    opened.close()
