"""What the fake API server may be asked for; everything else is refused, as a real one does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FIELDS = {
    "pods": ("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase"),
}
_BOTH = {"fieldSelector", "labelSelector", "resourceVersion", "resourceVersionMatch"}
_LIST = _BOTH | {"limit", "continue"}
_WATCH = _BOTH | {"watch", "allowWatchBookmarks", "timeoutSeconds", "sendInitialEvents"}
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


class Refused(Exception):
    def __init__(self, code: int, reason: str, message: str, retry_after: str = "") -> None:
        super().__init__(message)
        self.code, self.reason, self.retry_after = code, reason, retry_after


@dataclass
class Query:
    watch: bool = False
    bookmarks: bool = False
    initial: bool = False
    """sendInitialEvents"""
    version: str = ""
    limit: int = 0
    continue_: str = ""
    seconds: int = 1800
    selector: tuple[tuple[str, str], ...] = ()


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def parse(resource: str, given: Mapping[str, str], *, new: bool) -> Query:
    """``new``: the server knows streaming lists. Raises Refused."""
    watch = _boolean(given, "watch")
    unknown = set(given) - (_WATCH if watch else _LIST)
    if unknown:
        raise Refused(400, "BadRequest", f"unknown parameters: {', '.join(sorted(unknown))}")
    query = Query(
        watch,
        _boolean(given, "allowWatchBookmarks"),
        _boolean(given, "sendInitialEvents"),
        given.get("resourceVersion", ""),
        _number(given, "limit"),
        given.get("continue", ""),
        _number(given, "timeoutSeconds") or 1800,
        _selector(resource, given.get("fieldSelector", "")),
    )
    if query.version and not query.version.isdigit():
        raise Refused(400, "BadRequest", f"Invalid value: {query.version!r}: resourceVersion")
    _check_match(given.get("resourceVersionMatch", ""), query, new)
    if query.continue_ and query.version:
        raise Refused(400, "BadRequest", "specifying resource version is not allowed with continue")
    if "labelSelector" in given:
        raise Refused(400, "BadRequest", "nothing here asks by label")
    return query


def _check_match(match: str, query: Query, new: bool) -> None:
    if query.initial and not new:
        why = (
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
        )
        raise Refused(422, "Invalid", why)
    if query.initial and (match != "NotOlderThan" or not query.bookmarks):
        why = "sendInitialEvents requires resourceVersionMatch NotOlderThan and bookmarks"
        raise Refused(422, "Invalid", why)
    if match and query.watch and not query.initial:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        raise Refused(422, "Invalid", why)
    if match and not query.watch and not query.version:
        raise Refused(422, "Invalid", "resourceVersionMatch is forbidden without resourceVersion")
    if match not in ("", "NotOlderThan", "Exact"):
        raise Refused(422, "Invalid", f"resourceVersionMatch: Unsupported value: {match}")


def match(query: Query, thing: dict[str, Any]) -> bool:
    return all(_field(thing, path) == value for path, value in query.selector)


def _field(thing: Any, path: str) -> Any:
    for step in path.split("."):
        thing = thing.get(step, "") if isinstance(thing, dict) else ""
    return thing


def _selector(resource: str, text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for term in filter(None, text.split(",")):
        name, equals, value = term.partition("=")
        if not equals or name.endswith("!"):
            raise Refused(400, "BadRequest", f"invalid field selector: {term}")
        if name not in _FIELDS.get(resource, ("metadata.name", "metadata.namespace")):
            raise Refused(400, "BadRequest", f"field label not supported: {name}")
        pairs.append((name, value.removeprefix("=")))
    return tuple(pairs)


def _boolean(given: Mapping[str, str], name: str) -> bool:
    try:
        return _BOOLEANS[given.get(name, "0")]
    except KeyError:
        raise Refused(400, "BadRequest", f"{name}: {given[name]!r} is not a boolean") from None


def _number(given: Mapping[str, str], name: str) -> int:
    text = given.get(name, "0")
    if not text.isdigit():
        raise Refused(400, "BadRequest", f"{name}: {text!r} is not a number")
    return int(text)
