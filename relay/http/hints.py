"""GET /api/v1/hints: what could stand where somebody types in a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from flowobs import schema
from flowobs.filters import And, where
from flowobs.filters.ends import NOT_PORTS
from flowobs.query.fields import canonical
from flowobs.query.place import Place, columns_of, field_names, place
from flowobs.query.text import quoted
from relay.http.parameters import HintsQuery, hints_query, time_bounds
from relay.http.queries import Queries, Session
from relay.store.ddl import TABLE

MOST: Final = 20
_ROWS: Final = 100_000
"""Newest records of the window that are looked at: an answer has to come while somebody types."""
_MEASURED: Final = ("ns", "us", "s", "bytes", "packets")
"""Units of what nobody picks from a list."""
_NAMED: Final = ("pod", "from", "to", "end")


def router(queries: Queries) -> APIRouter:
    """The route, over a store."""
    routes = APIRouter()

    @routes.get("/api/v1/hints")
    async def hints(request: Request) -> Response:
        query = hints_query(request)
        here = place(query.text, query.at)
        if here.field:
            found = await queries.run(request, lambda session: values(session, here, query))
        else:
            found = [
                {"text": f"{name}:", "about": about} for name, about in field_names(here.prefix)
            ][:MOST]
        answer = {"start": here.start, "field": here.field, "hints": found}
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    return routes


def values(session: Session, here: Place, query: HintsQuery) -> list[dict[str, Any]]:
    """Values of the field in the records that the rest of the question asks for, by their number.

    Blocks; raises StoreError.
    """
    columns = columns_of(here.field)
    if not columns or schema.BY_NAME[columns[0]].unit in _MEASURED:
        return []
    column = schema.BY_NAME[columns[0]]
    port = canonical(here.field).rpartition(".")[2] == "port"
    asked, parameters = where(And((here.others, NOT_PORTS)) if port else here.others)
    # only the newest records are looked at: an answer to a rare question must not take longer
    begin = _begin(session, query)
    parameters |= {"begin": begin, "end": query.to_ns, "prefix": _lower(here.prefix)}
    texts = ", ".join(_text(name, here.field) for name in columns)
    # a record counts once, also where both ends have the value
    values = f"arrayFlatten([{texts}])" if column.unit == "list" else f"[{texts}]"
    values = f"arrayDistinct({values})"
    raw = ", ".join(_raw(columns, here.field))
    # `we` begins `web-0`, and the name in `shop/web-0`
    begins = (
        "AND (startsWith(lower(value), {prefix:String})"
        " OR position(lower(value), concat('/', {prefix:String})) > 0)"
    )
    found = session.query(
        f"SELECT value, sum(rows) AS n FROM (SELECT arrayJoin({values}) AS value, rows FROM"
        f" (SELECT {raw}, count() AS rows FROM {TABLE}"
        f" WHERE time >= fromUnixTimestamp64Nano({{begin:Int64}})"
        f" AND time < fromUnixTimestamp64Nano({{end:Int64}}) AND ({asked}) GROUP BY {raw})) "
        f"WHERE value != '' {'' if column.enum else begins} "
        f"GROUP BY value ORDER BY n DESC, value LIMIT {MOST}",
        parameters,
    )
    counted = dict(zip(found["value"], found["n"], strict=True))
    if column.enum is not None:
        return _members(column.enum, here.prefix, counted)
    return [{"text": quoted(str(text)), "count": n} for text, n in counted.items()]


def _begin(session: Session, query: HintsQuery) -> int:
    """When (ns) the newest ``_ROWS`` records of the window begin; the window, if it has none."""
    condition, parameters = where(And(tuple(time_bounds(query.from_ns, query.to_ns))))
    found = session.query(
        f"SELECT toUnixTimestamp64Nano(min(time)) AS begin FROM (SELECT time FROM {TABLE}"
        f" WHERE {condition} ORDER BY time DESC LIMIT {_ROWS})",
        parameters,
    )
    return max(int(found["begin"][0]), query.from_ns)


def _lower(text: str) -> str:
    return text.encode().lower().decode()  # ASCII letters only, as the engine does


def _raw(columns: Sequence[str], field: str) -> list[str]:
    """Columns that the texts are made of."""
    names = list(columns)
    if field.rpartition(".")[2] in _NAMED:
        names += [f"{n.removesuffix('_name')}_namespace" for n in columns if n.endswith("_name")]
    return list(dict.fromkeys(names))


def _text(name: str, field: str) -> str:
    if schema.BY_NAME[name].type == "ip":
        return f"replaceRegexpOne(toString({name}), '^::ffff:', '')"
    if name.endswith("_name") and field.rpartition(".")[2] in _NAMED:
        space = f"{name.removesuffix('_name')}_namespace"
        return f"if({name} = '' OR {space} = '', toString({name}), concat({space}, '/', {name}))"
    if schema.BY_NAME[name].unit == "list":
        return f"splitByChar(',', toString({name}))"
    return f"toString({name})"


def _members(kind: schema.EnumType, prefix: str, counted: dict[str, int]) -> list[dict[str, Any]]:
    """Members of an enum: also those that no record has."""
    counts = {
        member.name: counted.get(str(int(member)), 0)
        for member in kind
        if member.name.startswith(prefix.lower())
    }
    ordered = sorted(counts, key=lambda name: -counts[name])
    return [{"text": name, "count": counts[name]} for name in ordered[:MOST]]
