"""A relay in which the question `port:9001` never ends and `port:9002` takes all memory: ARGS..."""

from __future__ import annotations

import sys
from typing import Any

from flowobs.filters import Filter
from relay.cli import main
from relay.http import stored
from relay.http.queries import Session

ENDLESS = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1"
HUNGRY = "SELECT length(groupArray(number)) FROM numbers(10000000000)"

nearest = stored.nearest


def runaway(session: Session, filter: Filter, **given: Any) -> list[bytes]:
    for value, sql in ((9001, ENDLESS), (9002, HUNGRY)):
        if f"value={value})" in repr(filter):
            session.query(sql, {})
    return nearest(session, filter, **given)


stored.nearest = runaway
main(sys.argv[1:])
