"""GET /api/v1/whois: what records said of an address, a name or a socket, and who says so now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from flowobs import schema
from flowobs.batch import FlowBatch
from flowobs.filters import Filter, Mask, Match, Op, all_of, where
from flowobs.filters.ends import SIDES
from flowobs.identity import whois
from flowobs.identity.source import Claim
from flowobs.identity.whois import Asked, WhoisError
from flowobs.rows import row_dicts, time_text
from relay.http.errors import ApiError
from relay.http.parameters import check_names, parse_time, time_bounds
from relay.http.queries import Queries, Session
from relay.hub import Hub
from relay.store.ddl import TABLE

Explain = Callable[[Asked], Sequence[Claim]]

MOST: Final = 200
_DAY_NS: Final = 86400 * 10**9
_SHOWN: Final = (
    "ip", "kind", "cluster", "namespace", "name", "workload", "workload_kind", "node", "zone",
    "container", "identity_source", "identity",
)  # fmt: skip
_OF_SOCKETS: Final = ("process", "pid", "cgroup")


class _Seen(NamedTuple):
    """How records named one end: values of the columns asked for, and who told it when."""

    values: tuple[Any, ...]
    told_by: frozenset[str]
    first_ns: int
    last_ns: int

    def joined(self, other: _Seen) -> _Seen:
        return _Seen(
            self.values,
            self.told_by | other.told_by,
            min(self.first_ns, other.first_ns),
            max(self.last_ns, other.last_ns),
        )


def router(hub: Hub, queries: Queries, explain: Explain | None = None) -> APIRouter:
    """The route, over records; ``explain`` asks the relay's own table of names, if there is one."""
    routes = APIRouter()

    @routes.get("/api/v1/whois")
    async def get_whois(request: Request) -> Response:
        given = request.query_params
        check_names(given, {"q", "at", "since"})
        now_ns = time.time_ns()
        try:
            asked = whois.parse(given.get("q", ""), given.get("at"), now_ns)
        except WhoisError as error:
            raise ApiError(400, str(error)) from None
        since_ns = asked.at_ns - _DAY_NS
        if "since" in given:
            since_ns = parse_time("since", given["since"], now_ns)
        columns = _SHOWN + (_OF_SOCKETS if asked.cookie is not None else ())
        fresh = list(_recent(hub, asked, columns, since_ns))
        stored = await queries.run(request, lambda s: _stored(s, asked, columns, since_ns))
        seen = _rows([*stored, *fresh], columns, asked.at_ns, "at" in given)
        claims = explain(asked) if explain is not None else ()
        answer = whois.document(given.get("q", ""), asked, claims) | {
            "since": time_text(max(0, since_ns)),
            "seen": seen,
        }
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    return routes


def _filter(asked: Asked, side: str, since_ns: int) -> Filter:
    """Records whose end of ``side`` is what was asked for."""
    if asked.address is not None:
        parts: list[Filter] = [Match(f"{side}_ip", Op.eq, asked.address)]
    elif asked.cookie is not None:
        parts = [Match(f"{side}_cookie", Op.eq, asked.cookie)]
    else:
        parts = [Match(f"{side}_name", Op.eq, asked.name)]
        if asked.namespace is not None:
            parts.append(Match(f"{side}_namespace", Op.eq, asked.namespace))
    return all_of([*parts, *time_bounds(since_ns, None)])


def _stored(session: Session, asked: Asked, columns: Sequence[str], since_ns: int) -> list[_Seen]:
    """Blocks; raises StoreError."""
    found: list[_Seen] = []
    names = ", ".join(columns)
    for side in SIDES:
        condition, parameters = where(_filter(asked, side, since_ns))
        ends = ", ".join(f"{side}_{name} AS {name}" for name in columns)
        table = session.query(
            f"SELECT {names}, groupUniqArray(64)(told_by) AS told_by, min(at) AS first,"
            f" max(at) AS last FROM (SELECT {ends}, node AS told_by, time AS at FROM {TABLE}"
            f" WHERE {condition}) GROUP BY {names} ORDER BY last DESC LIMIT {MOST}",
            parameters,
        )
        values = zip(*(table[name] for name in columns), strict=True)
        others = zip(table["told_by"], table["first"], table["last"], strict=True)
        found += [
            _Seen(v, frozenset(nodes), first, last)
            for v, (nodes, first, last) in zip(values, others, strict=True)
        ]
    return found


def _recent(hub: Hub, asked: Asked, columns: Sequence[str], since_ns: int) -> Iterator[_Seen]:
    """The same of the records in memory: some are not stored yet."""
    batches = hub.recent().batches
    for side in SIDES:
        mask = Mask(_filter(asked, side, since_ns))
        for batch in batches:
            hits = np.flatnonzero(mask(batch))
            if len(hits):
                yield from _grouped(batch.select(hits), side, columns)


def _grouped(batch: FlowBatch, side: str, columns: Sequence[str]) -> Iterator[_Seen]:
    """One of each distinct end; rows of the endpoint table tell them apart."""
    told = [f"{side}_endpoint", "node"]
    told += [f"{side}_{name}" for name in ("ip", *_OF_SOCKETS) if name in columns]
    keys = np.column_stack([_words(batch[name]) for name in told])
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    for group, at in enumerate(first.tolist()):
        times = batch["time"][inverse == group]
        one = batch.select(slice(at, at + 1))
        values = tuple(_value(one, f"{side}_{name}") for name in columns)
        (node,) = one.strings("node")
        yield _Seen(values, frozenset((node,)), int(times.min()), int(times.max()))


def _words(column: Any) -> Any:
    return column.view("<u8") if column.ndim == 2 else column.astype(np.uint64)[:, None]


def _value(one: FlowBatch, name: str) -> Any:
    column = schema.BY_NAME[name]
    if column.type == "string":
        return one.strings(name)[0]
    return one[name][0].tobytes() if column.type == "ip" else int(one[name][0])


def _rows(
    found: list[_Seen], columns: Sequence[str], at_ns: int, past: bool
) -> list[dict[str, Any]]:
    """Newest first, each name once; ``accepted``: records of that time (``past``), or the newest
    ones of its address, said so.
    """
    distinct: dict[tuple[Any, ...], _Seen] = {}
    for one in found:
        known = distinct.get(one.values)
        distinct[one.values] = one if known is None else known.joined(one)
    ordered = sorted(distinct.values(), key=lambda seen: -seen.last_ns)[:MOST]
    newest: dict[bytes, int] = {}
    for seen in ordered:
        newest.setdefault(seen.values[0], seen.last_ns)
    table = {f"src_{name}": [seen.values[i] for seen in ordered] for i, name in enumerate(columns)}
    rows = []
    for row, seen in zip(row_dicts(table, len(ordered)), ordered, strict=True):
        named = {name.removeprefix("src_"): value for name, value in row.items()}
        said = {"address": named.pop("ip"), "source": named.pop("identity_source", "")}
        accepted, reason = _judged(seen, at_ns, past, newest[seen.values[0]])
        rows.append(
            {"accepted": accepted, **said, **named}
            | {"first_seen": time_text(seen.first_ns), "last_seen": time_text(seen.last_ns)}
            | {"told_by": sorted(seen.told_by), "reason": reason}
        )
    return rows


def _judged(seen: _Seen, at_ns: int, past: bool, newest_ns: int) -> tuple[bool, str]:
    if not past:
        latest = seen.last_ns == newest_ns
        return latest, "its newest records say so" if latest else "newer records say otherwise"
    if at_ns < seen.first_ns:
        return False, "on records of later"
    if at_ns > seen.last_ns:
        return False, "on records of before"
    return True, "on records before and after that time"
