"""An API server for tests: strict where a real one is, and with switches for what goes wrong.

``put``, ``remove`` and ``compact`` change what it holds; ``faults`` says how it misbehaves;
``requests`` is what it was asked. It is as kube-apiserver 1.36 was seen to be: expired versions are
told within the watch, JSON is indented for browsers and curl, lists are compressed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from aiohttp import web

from tests.kubernetes.fake_query import Query, Refused, match, parse, status

Thing = dict[str, Any]
Key = tuple[str, str]
PATHS = {
    "/api/v1/pods": ("pods", "Pod", "v1"),
    "/api/v1/services": ("services", "Service", "v1"),
    "/api/v1/nodes": ("nodes", "Node", "v1"),
    "/api/v1/namespaces": ("namespaces", "Namespace", "v1"),
    "/apis/discovery.k8s.io/v1/endpointslices": (
        "endpointslices",
        "EndpointSlice",
        "discovery.k8s.io/v1",
    ),
    "/apis/networking.k8s.io/v1/networkpolicies": (
        "networkpolicies",
        "NetworkPolicy",
        "networking.k8s.io/v1",
    ),
    "/apis/apps/v1/replicasets": ("replicasets", "ReplicaSet", "apps/v1"),
    "/apis/batch/v1/jobs": ("jobs", "Job", "batch/v1"),
}
TOKEN = "secret-token"


class Change(NamedTuple):
    version: int
    resource: str
    before: Thing | None
    after: Thing | None
    """Of a deletion None; ``before`` then has the version of the deletion."""


class Request(NamedTuple):
    at: float
    resource: str
    query: Query
    headers: dict[str, str]


@dataclass
class Faults:
    """What goes wrong, until it is switched off."""

    streaming: Literal["works", "forbidden", "etcd", "unknown"] = "works"
    """etcd: an error within the list; unknown: taken for a plain watch, as servers of before did"""
    refuse: deque[tuple[int, str]] = field(default_factory=deque)
    """Status and Retry-After of the next answers."""
    refuse_all: int = 0
    end_at_once: bool = False
    """Watches end as soon as they have begun."""
    cut_after: int | None = None
    """Connections break after so many more lines."""
    expire_watches: int = 0
    """So many watches are told at once that their version expired."""
    expire_continue: int = 0
    """So many continue tokens have expired when they come."""
    silent: bool = False
    """Watches say nothing, not even that they end: a half-dead connection."""
    forbidden: set[str] = field(default_factory=set)
    """Resources that RBAC does not allow."""
    garbage: bytes = b""
    """A line sent in the next watch."""
    delay: float = 0.0


class FakeApi:
    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.tokens = {TOKEN}
        self.faults = Faults()
        self.requests: list[Request] = []
        self.version = 100
        self.things: dict[str, dict[Key, Thing]] = {name: {} for name, _, _ in PATHS.values()}
        self._changes: list[Change] = []
        self._compacted = 100
        self._news = asyncio.Event()
        self._bookmarks = 0
        self._uids = itertools.count(1)
        self._tls = tls
        self._watching: dict[int, web.Request] = {}
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> FakeApi:
        self.loop = asyncio.get_running_loop()
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port: int = self._runner.addresses[0][1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self.cut()
        await self._runner.cleanup()

    # --- what it holds ---

    def put(self, resource: str, thing: Thing) -> Thing:
        """Make or change an object; the same uid as long as it is not removed in between."""
        meta = thing["metadata"]
        key = meta.get("namespace", ""), meta["name"]
        before = self.things[resource].get(key)
        self.version += 1
        kept = before["metadata"] if before else {}
        meta.setdefault("uid", kept.get("uid") or f"uid-{next(self._uids)}")
        if before and meta["uid"] != kept["uid"]:
            raise ValueError(f"{key} has another uid: remove it first")
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        meta.setdefault("creationTimestamp", kept.get("creationTimestamp", made))
        meta["resourceVersion"] = str(self.version)
        after = json.loads(json.dumps(thing))
        self.things[resource][key] = after
        self._changed(Change(self.version, resource, before, after))
        return after

    def remove(self, resource: str, namespace: str, name: str) -> None:
        before = self.things[resource].pop((namespace, name))
        self.version += 1
        last = {**before, "metadata": before["metadata"] | {"resourceVersion": str(self.version)}}
        self._changed(Change(self.version, resource, last, None))

    def compact(self) -> None:
        """Forget changes of before: whoever wants them gets "expired"."""
        self.version += 1
        self._changes.clear()
        self._compacted = self.version

    def bookmark(self) -> None:
        """Have every watch that asked for it told the current version."""
        self._bookmarks += 1
        self._wake()

    def cut(self) -> None:
        """Break every connection there is."""
        for request in list(self._watching.values()):
            if request.transport is not None:
                request.transport.abort()
        self._watching.clear()

    @property
    def watches(self) -> int:
        return len(self._watching)

    def _changed(self, change: Change) -> None:
        self._changes.append(change)
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        if self.loop is not None:
            self.loop.call_soon_threadsafe(news.set)  # a test may be in another thread

    # --- how it answers ---

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        faults = self.faults
        try:
            authorized = request.headers.get("Authorization", "")
            if authorized.removeprefix("Bearer ") not in self.tokens:
                raise Refused(401, "Unauthorized", "Unauthorized")
            resource, kind, group = PATHS.get(request.path, ("", "", ""))
            if not resource:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            query = parse(resource, request.query, new=faults.streaming != "forbidden")
            headers = dict(request.headers)
            self.requests.append(Request(time.monotonic(), resource, query, headers))
            await asyncio.sleep(faults.delay)
            if resource in faults.forbidden:
                why = f'{resource} is forbidden: User "test" cannot list resource "{resource}"'
                raise Refused(403, "Forbidden", why)
            if faults.refuse:
                code, wait = faults.refuse.popleft()
                raise Refused(code, "TooManyRequests", "try again later", wait)
            if faults.refuse_all:
                raise Refused(faults.refuse_all, "Refused", "as the test wants it")
            partial = _partial(request.headers.get("Accept", "*/*"), query)
            if query.watch:
                return await self._watch(request, resource, kind, group, query, partial)
            return self._list(request, resource, kind, group, query, partial)
        except Refused as refused:
            wait = {"Retry-After": refused.retry_after} if refused.retry_after else {}
            body = json.dumps(status(refused.code, refused.reason, str(refused)))
            return web.Response(
                text=body, status=refused.code, headers=wait, content_type="application/json"
            )

    def _list(
        self,
        request: web.Request,
        resource: str,
        kind: str,
        group: str,
        query: Query,
        partial: bool,
    ) -> web.Response:
        version, start = self.version, 0
        found = sorted(self.things[resource].items())
        if query.continue_:
            made, _, after = query.continue_.partition(":")
            if self.faults.expire_continue or int(made) < self._compacted:
                self.faults.expire_continue = max(0, self.faults.expire_continue - 1)
                raise Refused(410, "Expired", "The provided continue parameter is too old")
            version, start = int(made), int(after)
            found = sorted(self._as_of(resource, version).items())
        items = [thing for _, thing in found if match(query, thing)]
        meta: Thing = {"resourceVersion": str(version)}
        if query.limit and start + query.limit < len(items):
            meta["continue"] = f"{version}:{start + query.limit}"
            meta["remainingItemCount"] = len(items) - start - query.limit
        items = items[start : start + query.limit] if query.limit else items
        if partial:
            kind, group, items = _METADATA, "meta.k8s.io/v1", [_only_metadata(i) for i in items]
        answer = {"kind": f"{kind}List", "apiVersion": group, "metadata": meta, "items": items}
        # for people it is indented: twice the bytes
        agent = request.headers.get("User-Agent", "")
        pretty = agent.startswith(("curl", "Mozilla", "Wget"))
        body = json.dumps(answer, indent=2 if pretty else None).encode()
        headers = {"Content-Type": "application/json"}
        if "gzip" in request.headers.get("Accept-Encoding", "") and len(body) > 128 << 10:
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        return web.Response(body=body, headers=headers)

    def _as_of(self, resource: str, version: int) -> dict[Key, Thing]:
        things = dict(self.things[resource])
        for change in reversed(self._changes):
            if change.version <= version or change.resource != resource:
                continue
            thing = change.after or change.before
            assert thing is not None
            meta = thing["metadata"]
            key = meta.get("namespace", ""), meta["name"]
            if change.before is None:
                things.pop(key, None)
            else:
                things[key] = change.before
        return things

    async def _watch(
        self,
        request: web.Request,
        resource: str,
        kind: str,
        group: str,
        query: Query,
        partial: bool,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._watching[id(request)] = request
        end = time.monotonic() + query.seconds
        try:
            lines = self._lines(resource, kind, group, query, end, partial)
            async with contextlib.aclosing(lines):
                async for line in lines:
                    if self.faults.cut_after is not None:
                        self.faults.cut_after -= 1
                        if self.faults.cut_after < 0:
                            self.faults.cut_after = None
                            assert request.transport is not None
                            await response.write(line[: len(line) // 2])
                            request.transport.abort()
                            break
                    await response.write(line)
        finally:
            self._watching.pop(id(request), None)
        return response

    async def _lines(
        self, resource: str, kind: str, group: str, query: Query, end: float, partial: bool
    ) -> AsyncIterator[bytes]:
        line = _partial_line if partial else _line
        faults = self.faults
        streaming = query.initial and faults.streaming == "works"
        if query.initial and faults.streaming == "etcd":
            why = "required storage feature RequestWatchProgress is disabled"
            yield _line("ERROR", status(500, "InternalError", why))
            return
        at = self.version
        if query.version not in ("", "0") and not query.initial:
            at = int(query.version)
            if at < self._compacted or faults.expire_watches:
                faults.expire_watches = max(0, faults.expire_watches - 1)
                why = f"too old resource version: {at} ({self._compacted})"
                yield _line("ERROR", status(410, "Expired", why))
                return
        else:
            for thing in list(self.things[resource].values()):
                if match(query, thing):
                    yield line("ADDED", thing)
            if streaming:
                yield _bookmark(kind, group, at, {"k8s.io/initial-events-end": "true"})
        if faults.garbage:
            yield faults.garbage + b"\n"
            faults.garbage = b""
        told = self._bookmarks
        while True:
            news = self._news
            if faults.silent:
                await asyncio.sleep(3600)
            for change in self._changes[:]:
                if change.version > at and change.resource == resource:
                    at = change.version
                    for kind_of_event, thing in _events(query, change):
                        yield line(kind_of_event, thing)
            if told != self._bookmarks and query.bookmarks:
                told = self._bookmarks
                at = max(at, self.version)
                yield _bookmark(kind, group, at, {})
            if faults.end_at_once or time.monotonic() >= end:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    await news.wait()


def _events(query: Query, change: Change) -> Iterator[tuple[str, Thing]]:
    """What a watch with a selector sees of a change."""
    was = change.before is not None and match(query, change.before)
    if change.after is not None and match(query, change.after):
        yield ("MODIFIED" if was else "ADDED"), change.after
    elif was:
        assert change.before is not None
        meta = change.before["metadata"] | {"resourceVersion": str(change.version)}
        yield "DELETED", {**change.before, "metadata": meta}


_METADATA = "PartialObjectMetadata"


def _partial(accept: str, query: Query) -> bool:
    """Whether metadata alone is asked for. Raises Refused for a form that there is not."""
    form, *parameters = accept.replace(" ", "").split(";")
    if form not in ("*/*", "application/json"):
        raise Refused(406, "NotAcceptable", f"only JSON here, not {accept}")
    if not parameters:
        return False
    kind = _METADATA if query.watch else f"{_METADATA}List"
    if set(parameters) != {f"as={kind}", "g=meta.k8s.io", "v=v1"}:
        raise Refused(406, "NotAcceptable", f"not in this form: {accept}")
    return True


def _only_metadata(thing: Thing) -> Thing:
    return {"kind": _METADATA, "apiVersion": "meta.k8s.io/v1", "metadata": thing["metadata"]}


def _partial_line(kind: str, thing: Thing) -> bytes:
    return _line(kind, _only_metadata(thing))


def _line(kind: str, thing: Thing) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def _bookmark(kind: str, group: str, version: int, annotations: dict[str, str]) -> bytes:
    meta: Thing = {"resourceVersion": str(version), "creationTimestamp": None}
    if annotations:
        meta["annotations"] = annotations
    return _line("BOOKMARK", {"kind": kind, "apiVersion": group, "metadata": meta})
