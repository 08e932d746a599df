"""Stored records as CSV and Arrow: the engine writes them, page by page.

A page is a stretch of time that holds about ``PAGE_ROWS`` records that match. Where it ends is
asked first, so that all records of one time are in one page; nothing is held between pages. Where
they are very many, they are parted by a hash.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from flowobs import schema
from flowobs.filters import And, Filter, Match, Op, where
from relay.http.flows_query import FlowsQuery, Format
from relay.http.queries import Session
from relay.http.stored import CROWD_ROWS
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
_HASH: Final = f"cityHash64({', '.join(f'{TABLE}.{name}' for name in schema.BY_NAME)})"


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


def crowd(session: Session, filter: Filter, rows: int) -> list[int]:
    """Records of one time in parts by hash, so many that each has about ``CROWD_ROWS`` of at most
    ``rows``; how many each has. Blocks; raises StoreError."""
    condition, parameters = where(filter)
    parts = -(-rows // CROWD_ROWS)
    found = session.query(
        f"SELECT {_HASH} % {parts:d} AS part, count() AS n FROM {TABLE}"
        f" WHERE {condition} GROUP BY part",
        parameters,
    )
    counts = dict(zip(found["part"], found["n"], strict=True))
    return [counts.get(part, 0) for part in range(parts)]


class Part(NamedTuple):
    """A page: records that match ``filter`` and ``condition``, ``rows`` of them after ``skip``."""

    filter: Filter
    rows: int
    skip: int = 0
    condition: str = "1"


async def chunks(query: FlowsQuery, run: Run[Any], write: Run[bytes]) -> AsyncIterator[bytes]:
    """The answer, a page at a time, at least one. Raises what ``run`` raises."""
    first = True
    async for part in _parts(query, run):
        data = await write(partial(_write, _select(query, part), _NAMES[query.format][not first]))
        yield _body(data, first) if query.format == "arrow" else data
        first = False
    if query.format == "arrow":
        yield _END


async def _parts(query: FlowsQuery, run: Run[Any]) -> AsyncIterator[Part]:
    filter, left, skip = query.bounded, query.count, 0
    newest = query.order_newest
    if newest != query.newest:
        # looked for from one end, shown from the other: where they begin has to be known
        whole = await run(partial(stretch, filter=filter, newest=query.newest, limit=left))
        low, high = sorted((whole.edge_ns, whole.other_ns))
        filter = And((filter, Match("time", Op.ge, low), Match("time", Op.le, high)))
        skip = max(0, whole.rows - left)
        left = min(left, whole.rows - skip)
    while True:
        limit = min(left, PAGE_ROWS) + skip
        page = await run(partial(stretch, filter=filter, newest=newest, limit=limit))
        rows = min(left, page.rows - skip)
        beyond = And((filter, Match("time", Op.lt if newest else Op.gt, page.edge_ns)))
        if page.rows > PAGE_ROWS + CROWD_ROWS:
            at_edge = And((filter, Match("time", Op.eq, page.edge_ns)))
            counts = await run(partial(crowd, filter=at_edge, rows=page.rows))
            before = And((filter, Match("time", Op.gt if newest else Op.lt, page.edge_ns)))
            parts = [Part(before, max(0, page.rows - sum(counts))), *_of_crowd(at_edge, counts)]
        else:
            within = Match("time", Op.ge if newest else Op.le, page.edge_ns)
            parts = [Part(And((filter, within)), page.rows)]
        for part in _cut(parts, rows, skip):
            yield part
        if rows >= left or page.rows < limit:
            return
        filter, left, skip = beyond, left - rows, 0


def _of_crowd(filter: Filter, counts: Sequence[int]) -> list[Part]:
    return [
        Part(filter, rows, condition=f"{_HASH} % {len(counts)} = {at}")
        for at, rows in enumerate(counts)
    ]


def _cut(parts: Iterable[Part], rows: int, skip: int) -> Iterator[Part]:
    """``rows`` of ``parts`` after ``skip``; at least one part, lest an answer lack its head."""
    none = True
    for part in parts:
        skipped, taken = min(skip, part.rows), min(rows, part.rows - min(skip, part.rows))
        skip, rows = skip - skipped, rows - taken
        if taken:
            yield part._replace(skip=skipped, rows=taken)
            none = False
    if none:
        yield part._replace(rows=0)


def _select(query: FlowsQuery, part: Part) -> tuple[str, dict[str, object]]:
    condition, parameters = where(part.filter)
    fields = query.fields or tuple(schema.BY_NAME)
    columns = ", ".join(_shown(schema.BY_NAME[name], query.format) for name in fields)
    way = "DESC" if query.order_newest else "ASC"
    sql = (
        f"SELECT {columns} FROM {TABLE} WHERE {condition} AND {part.condition}"
        f" ORDER BY {TABLE}.time {way}, {TABLE}.kind {way} LIMIT {part.rows:d} OFFSET {part.skip:d}"
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


def _body(stream: bytes, first: bool) -> bytes:
    """A page's Arrow stream as a part of one: the first has the schema, none has the end."""
    begin = 0 if first else 8 + struct.unpack_from("<i", stream, 4)[0]
    return stream[begin:].removesuffix(_END)
