"""Stored records as CSV and Arrow: the engine writes them, page by page.

A page is a stretch of time that holds about ``PAGE_ROWS`` records that match. Where it ends is
asked first, so that all records of one time are in one page; nothing is held between pages.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple, TypeVar

from flowobs import schema
from flowobs.filters import And, Filter, Match, Op, where
from relay.http.flows_query import FlowsQuery, Format
from relay.http.queries import Session
from relay.store.ddl import TABLE

T = TypeVar("T")
Run = Callable[[Callable[[Session], T]], Awaitable[T]]

PAGE_ROWS: Final = 10_000
_NAMES: Final[dict[Format, tuple[str, str]]] = {
    "csv": ("CSVWithNames", "CSV"),
    "arrow": ("ArrowStream", "ArrowStream"),
}
"""How the first page is written, and how the others are."""
_END: Final = b"\xff\xff\xff\xff\0\0\0\0"
"""What an Arrow stream ends with."""


class Stretch(NamedTuple):
    """Records from one end of the store on."""

    edge_ns: int
    """Time of the last of them."""
    other_ns: int
    """Time of the first of them."""
    rows: int
    """How many, all of the edge's time included."""


def stretch(session: Session, filter: Filter, newest: bool, limit: int) -> Stretch:
    """The newest (else oldest) ``limit`` records that match. Blocks; raises StoreError."""
    condition, parameters = where(filter)
    ends = ("min", "max") if newest else ("max", "min")
    found = session.query(
        f"SELECT toUnixTimestamp64Nano({ends[0]}(time)) AS edge,"
        f" toUnixTimestamp64Nano({ends[1]}(time)) AS other, count() AS n"
        f" FROM (SELECT time FROM {TABLE} WHERE {condition}"
        f" ORDER BY time {'DESC' if newest else 'ASC'} LIMIT {limit:d} WITH TIES)",
        parameters,
    )
    return Stretch(found["edge"][0], found["other"][0], found["n"][0])


async def chunks(query: FlowsQuery, run: Run[Stretch], write: Run[bytes]) -> AsyncIterator[bytes]:
    """The answer, a page at a time, at least one. Raises what ``run`` raises."""
    filter, left, skip = query.bounded, query.count, 0
    newest = query.order_newest
    if newest != query.newest:
        # looked for from one end, shown from the other: where they begin has to be known
        whole = await run(partial(stretch, filter=filter, newest=query.newest, limit=left))
        low, high = sorted((whole.edge_ns, whole.other_ns))
        filter = And((filter, Match("time", Op.ge, low), Match("time", Op.le, high)))
        skip = max(0, whole.rows - left)
        left = min(left, whole.rows - skip)
    first = True
    while True:
        page = await run(
            partial(stretch, filter=filter, newest=newest, limit=min(left, PAGE_ROWS) + skip)
        )
        rows = min(left, page.rows - skip)
        within = (filter, Match("time", Op.ge if newest else Op.le, page.edge_ns))
        select = partial(_select, query, And(within), rows, skip)
        data = await write(partial(_write, select(), _NAMES[query.format][not first]))
        last = rows >= left or page.rows < PAGE_ROWS + skip
        yield _joined(data, first, last) if query.format == "arrow" else data
        if last:
            return
        filter = And((filter, Match("time", Op.lt if newest else Op.gt, page.edge_ns)))
        first, left, skip = False, left - rows, 0


def _select(
    query: FlowsQuery, filter: Filter, rows: int, skip: int
) -> tuple[str, dict[str, object]]:
    condition, parameters = where(filter)
    fields = query.fields or tuple(schema.BY_NAME)
    columns = ", ".join(_shown(schema.BY_NAME[name], query.format) for name in fields)
    way = "DESC" if query.order_newest else "ASC"
    sql = (
        f"SELECT {columns} FROM {TABLE} WHERE {condition} ORDER BY {TABLE}.time {way},"
        f" {TABLE}.kind {way} LIMIT {max(rows, 0):d} OFFSET {skip:d}"
    )
    return sql, parameters


def _write(select: tuple[str, dict[str, object]], format: str, session: Session) -> bytes:
    sql, parameters = select
    return session.raw(sql, format, parameters)


def _shown(column: schema.Column, format: Format) -> str:
    """A column as it is shown: names instead of numbers, addresses and times as text."""
    name = column.name
    if column.enum is not None:
        numbers = ", ".join(str(int(m)) for m in column.enum)
        names = ", ".join(f"'{m.name}'" for m in column.enum)
        empty = f"if({name} = 0, '', toString({name}))" if column.optional else f"toString({name})"
        return f"transform({name}, [{numbers}], [{names}], {empty}) AS `{name}`"
    if column.type == "ip":
        text = f"replaceRegexpOne(toString({name}), '^::ffff:([0-9]+[.])', '\\\\1')"
        if column.optional:
            text = f"if({name} = toIPv6('::'), '', {text})"
        return f"{text} AS `{name}`"
    if column.type == "time" and format == "csv":
        return f"concat(replaceOne(toString({name}), ' ', 'T'), 'Z') AS `{name}`"
    if column.type == "string":
        return f"toString({name}) AS `{name}`"
    return f"`{name}`"


def _joined(stream: bytes, first: bool, last: bool) -> bytes:
    """A page's Arrow stream as a part of one: the first has the schema, the last has the end."""
    begin = 0
    if not first:
        begin = 8 + struct.unpack_from("<i", stream, 4)[0]
    if not last and stream.endswith(_END):
        return stream[begin : -len(_END)]
    return stream[begin:]
