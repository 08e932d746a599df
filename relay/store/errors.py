"""What can go wrong with the store, as one sentence and the next step."""

from __future__ import annotations

import re


class StoreError(Exception):
    """The store cannot be opened, read or written; the text says why and what to do."""


class DiskFull(StoreError):
    """The store's disk has no room left."""


class QueryTimeout(StoreError):
    """A query took longer or more memory than it may."""


_FULL = re.compile(r"No space left|NOT_ENOUGH_SPACE|Code: 243\b|errno: 28", re.I)
_TIMEOUT = re.compile(r"TIMEOUT_EXCEEDED|Code: 159\b")
_MEMORY = re.compile(r"MEMORY_LIMIT_EXCEEDED|TOO_MANY_ROWS_OR_BYTES|Code: (241|396)\b")
_KILLED = re.compile(r"QUERY_WAS_CANCELLED|Code: 394\b")
_LOGIN = re.compile(r"AUTHENTICATION_FAILED|Code: (516|194|192)\b")
_UNREACHABLE = re.compile(
    r"Connection refused|Max retries|timed out|Name or service|NewConnectionError|NameResolution",
    re.I,
)
_NOISE = re.compile(r"^.*?DB::Exception: |\s*\(version .*$", re.S)


def full(where: object) -> DiskFull:
    """About the store at ``where``."""
    return DiskFull(
        f"the disk of the store {where} is full: free space, or keep less with --max-disk or"
        " --retention"
    )


def is_full(error: Exception) -> bool:
    """Whether the engine says that its disk is full."""
    return _FULL.search(str(error)) is not None


def explain(error: Exception, where: str) -> StoreError:
    """``error`` of the engine or its client, as a StoreError about ``where`` (a URL)."""
    text = str(error)
    if is_full(error):
        return full(where)
    if _TIMEOUT.search(text):
        return QueryTimeout("the query took too long: ask for a shorter time range")
    if _MEMORY.search(text):
        return QueryTimeout("the query needs too much memory: ask for a shorter time range")
    if _KILLED.search(text):
        return StoreError("the query was stopped because the relay is shutting down: ask again")
    if _LOGIN.search(text):
        return StoreError(f"the store {where} refuses the user or password in its URL: correct it")
    if _UNREACHABLE.search(text):
        return StoreError(f"the store {where} does not answer: check that it runs and the URL")
    return StoreError(f"the store {where} failed: {_NOISE.sub('', text)[:300].strip()}")
