"""Follows one resource: list, watch, and list again as a difference, for as long as it runs."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
import msgspec

from flowobs.kubernetes import objects
from flowobs.kubernetes.access import AccessError
from flowobs.kubernetes.backoff import Backoff
from flowobs.kubernetes.client import ApiError, Client, body
from flowobs.kubernetes.freshness import Freshness
from flowobs.kubernetes.lines import Lines, LineTooLong
from flowobs.kubernetes.objects import Object
from flowobs.kubernetes.resources import Resource

_log = logging.getLogger(__name__)

PAGE = 500
GONE = 410
_event = msgspec.json.Decoder(objects.Event)
_bookmark = msgspec.json.Decoder(objects.Bookmark)
_raw_page = msgspec.json.Decoder(objects.RawPage)
_status = msgspec.json.Decoder(objects.Status)

_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_NOT_OURS = (403, 404)
"""Not allowed, or a resource that this server does not have."""
_OFF_SECONDS = 600.0
"""How often a resource that names can do without is asked for again after such an answer."""
_REFUSED_STREAM = (400, 406, 422, 500, 501)
"""How servers answer a streaming list that they, or their etcd, cannot give."""


class Sink(Protocol):
    """Takes what a reflector learns. Not called twice for one version of an object."""

    def put(self, thing: Object, since_ns: int | None) -> None:
        """It is new, or has changed: just now, or where a list says so at some time after
        ``since_ns`` (UTC), since when other things may have come and gone, too.
        """

    def remove(self, uid: str, at_ns: int) -> None:
        """It is gone; it was there, as far as we know, until ``at_ns`` (UTC)."""

    def synced(self) -> None:
        """All that there is for us has been put, for the first time or again."""


class _Unusable(Exception):
    """The server does not give streaming lists."""


class Reflector:
    """Tells ``sink`` of the objects of ``resource`` that match ``selector`` (a field selector)."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        sink: Sink,
        *,
        selector: str = "",
        clock: Callable[[], int] = time.time_ns,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.resource = resource
        self.freshness = Freshness(client.timing, clock)
        self.undecodable = 0
        """Objects left out because they are not what the API says they are."""
        self.lists = 0
        self.off = False
        """The server does not let us have it, and names do without."""
        self.known: dict[str, str] = {}
        """uid -> resourceVersion of what the sink has."""
        self._client = client
        self._timing = client.timing
        self._sink = sink
        self._filter = {"fieldSelector": selector} if selector else {}
        self._chance = chance
        self._backoff = Backoff(client.timing, chance)
        self._version = ""
        """resourceVersion to go on from; empty: list first."""
        self._complete_ns = self.freshness.heard_ns
        self._streams = True
        self._said = ""

    async def run(self) -> None:
        """Follow until cancelled. Nothing that a server does ends it."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            wait = await self._attempt()
            self.freshness.connected = False
            if wait is None and loop.time() - began >= self._timing.steady:
                self._backoff.worked()
            # at most one attempt in this time, also against a server that ends all watches at once
            pause = began + self._timing.least * (1 + self._chance() / 2) - loop.time()
            await asyncio.sleep(max(pause, wait or 0.0))

    async def _attempt(self) -> float | None:
        """List or watch until that ends; the seconds to wait for after a failure."""
        began = asyncio.get_running_loop().time()
        try:
            if self._version:
                await self._watch(self._version)
            else:
                await self._list()
            lasted = asyncio.get_running_loop().time() - began
            if lasted >= self._timing.least:
                return None
            return self._backoff.failed()  # ended by the server, but much too soon
        except ApiError as error:
            if error.code == GONE:
                self._version = ""
            if asyncio.get_running_loop().time() - began >= self._timing.steady:
                self._backoff.worked()
            if error.code == GONE and self._backoff.failures == 0:
                self._backoff.failures = 1  # the next one in a row waits
                return None
            if self.resource.extra and error.code in _NOT_OURS:
                return self._switch_off(str(error))
            self._complain(error.code, str(error))
            return self._backoff.failed(error.wait)
        except AccessError as error:
            self._complain(0, str(error))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, LineTooLong) as error:
            self._complain(0, f"{type(error).__name__}: {error}"[:500])
        except msgspec.MsgspecError as error:
            self._complain(0, f"an answer that is not the API's: {error}"[:500])
        return self._backoff.failed()

    def _switch_off(self, why: str) -> float:
        self.freshness.problem = why
        if not self.off:
            self.off = True
            _log.info(
                "names go without %s: deploy/rbac.yaml would allow it (%s)", self.resource.name, why
            )
            self._sink.synced()  # nothing is to come
        return _OFF_SECONDS

    def _complain(self, code: int, why: str) -> None:
        """Say each problem once: a server that is away for a night is one line."""
        name = self.resource.name
        if code == 403:
            why = f"not allowed to list and watch {name}: apply deploy/rbac.yaml ({why})"
        elif code == 401:
            why = f"the API server does not take our credentials: renew them ({why})"
        self.freshness.problem = why
        if why != self._said:
            self._said = why
            _log.warning("watch interrupted, what is known stays in use: %s: %s", name, why)

    def _heard(self, *, complete: bool) -> None:
        """The server spoke; ``complete``: so we know all changes until now."""
        self.freshness.heard()
        self.off = False
        if complete:
            self._complete_ns = self.freshness.heard_ns
        if self._said:
            self._said = ""
            _log.info("watch works again: resource=%s", self.resource.name)

    async def _list(self) -> None:
        """Learn all there is. A streaming list becomes the watch that comes after it."""
        if self._streams:
            try:
                self.lists += 1
                await self._watch("")
                return
            except _Unusable as why:
                self._streams = False
                _log.info("no streaming lists here: resource=%s why=%s", self.resource.name, why)
        self.lists += 1
        self._version = await self._pages()
        await self._watch(self._version)

    async def _pages(self) -> str:
        """List page by page; the version the list is of."""
        seen: set[str] = set()
        more = ""
        while True:
            parameters = {"limit": str(PAGE), **self._filter} | ({"continue": more} if more else {})
            async with (
                asyncio.timeout(self._timing.quiet),
                self._client.get(self.resource.path, parameters, self._form("List")) as response,
            ):
                data = await body(response)
            metadata, items = self._page(data)
            self.freshness.connected = True
            self._heard(complete=False)
            for item in items:
                seen.add(item.metadata.uid)
                self._put(item, self._complete_ns)
            more = metadata.continue_
            if not more:
                break
            await asyncio.sleep(0)  # the other resources' turn
        if not metadata.resourceVersion:
            raise ApiError(200, "NoVersion", "the list has no resourceVersion")
        self._complete(seen)
        return metadata.resourceVersion

    def _form(self, of: str) -> str:
        return _METADATA.format(of) if self.resource.extra else ""

    def _page(self, data: bytes) -> tuple[objects.ListMeta, list[Any]]:
        try:
            page = self.resource.page.decode(data)
            return page.metadata, page.items or []
        except msgspec.ValidationError:
            raw = _raw_page.decode(data)
            found = (self._decode(item) for item in raw.items or ())
            return raw.metadata, [item for item in found if item is not None]

    def _decode(self, data: msgspec.Raw) -> Object | None:
        try:
            return self.resource.object.decode(data)
        except msgspec.ValidationError as error:
            self.undecodable += 1
            if self.undecodable == 1:
                _log.warning("an object left out: %s: %s", self.resource.name, error)
            return None

    async def _watch(self, version: str) -> None:
        """Follow changes from ``version`` on; without one, all there is comes first."""
        low, high = self._timing.watch
        seconds = max(1, round(low + (high - low) * self._chance()))
        parameters = {
            "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds),
            **self._filter,
        }  # fmt: skip
        listing: set[str] | None = None
        if version:
            parameters["resourceVersion"] = version
        else:
            parameters |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
            listing = set()
        total = seconds + self._timing.grace
        loop = asyncio.get_running_loop()
        end = loop.time() + total
        try:
            async with (
                asyncio.timeout_at(end) as limit,
                self._client.get(self.resource.path, parameters, self._form("")) as response,
            ):
                self.freshness.connected = True
                lines = Lines()
                if listing is not None:
                    limit.reschedule(loop.time() + self._timing.quiet)
                async for chunk in response.content.iter_any():
                    for line in lines.feed(chunk):
                        listing = self._line(line, listing)
                    self._heard(complete=listing is None)
                    quiet = listing is not None
                    limit.reschedule(loop.time() + self._timing.quiet if quiet else end)
        except ApiError as error:
            if listing is not None and error.code in _REFUSED_STREAM:
                raise _Unusable(str(error)) from None
            raise
        except TimeoutError:
            if listing is not None and self.freshness.connected:
                # servers from before streaming lists take it for a watch, which has no such end
                raise _Unusable("the list has no end") from None
            raise
        if listing is not None:
            raise ApiError(200, "Incomplete", "the streaming list ended before its end")
        self._heard(complete=True)

    def _line(self, line: bytes, listing: set[str] | None) -> set[str] | None:
        """Take one event; ``listing``: the uids so far while all there is still comes."""
        event = _event.decode(line)
        if event.type == "BOOKMARK":
            metadata = _bookmark.decode(event.object).metadata
            ended = metadata.annotations is not None and metadata.annotations.initial_events_end
            if listing is not None:
                if ended != "true":
                    return listing
                self._complete(listing)
            self._version = metadata.resourceVersion or self._version
            return None
        if event.type == "ERROR":
            status = _status.decode(event.object)
            raise ApiError(status.code, status.reason, status.message[:500])
        thing = self._decode(event.object)
        if thing is None:
            self._version = self._undecoded_version(event.object, listing)
            return listing
        uid = thing.metadata.uid
        if event.type == "DELETED":
            if listing is not None:
                listing.discard(uid)
            self._remove(uid, self.freshness.now_ns())
        elif event.type in ("ADDED", "MODIFIED"):
            if listing is not None:
                listing.add(uid)
            self._put(thing, self._complete_ns if listing is not None else None)
        if listing is None:
            self._version = thing.metadata.resourceVersion or self._version
        return listing

    def _undecoded_version(self, data: msgspec.Raw, listing: set[str] | None) -> str:
        """Where to go on after an object that was left out: behind it, or it comes forever."""
        if listing is not None:
            return self._version
        try:
            return _bookmark.decode(data).metadata.resourceVersion or self._version
        except msgspec.ValidationError:
            return self._version

    def _put(self, thing: Object, since_ns: int | None) -> None:
        uid, version = thing.metadata.uid, thing.metadata.resourceVersion
        if not uid or self.known.get(uid) == version:
            return
        self.known[uid] = version
        self._sink.put(thing, since_ns)

    def _remove(self, uid: str, at_ns: int) -> None:
        if self.known.pop(uid, None) is not None:
            self._sink.remove(uid, at_ns)

    def _complete(self, seen: set[str]) -> None:
        """What is known but was not listed went at some time after we last knew all changes.

        For records of that time it has no name: the address may have been another's since.
        """
        for uid in [uid for uid in self.known if uid not in seen]:
            self._remove(uid, self._complete_ns)
        self._complete_ns = self.freshness.now_ns()
        self.freshness.synced = True
        self._sink.synced()
