"""What the tests of this folder share: a patient-less timing, a sink, a reflector that runs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flowobs.kubernetes.access import Access
from flowobs.kubernetes.backoff import Timing
from flowobs.kubernetes.client import Client
from flowobs.kubernetes.objects import Object
from flowobs.kubernetes.reflector import Reflector
from flowobs.kubernetes.resources import PODS, Resource
from tests.kubernetes.fake_api import TOKEN, FakeApi

QUICK = Timing(
    least=0.02,
    most=0.2,
    most_asked=2.0,
    steady=0.5,
    connect=2.0,
    quiet=3.0,
    watch=(30, 30),
    grace=0.3,
    token=0.05,
    stale=1.0,
    stale_cut=0.2,
)


@dataclass
class Seen:
    """A sink that keeps what it is told."""

    things: dict[str, Object] = field(default_factory=dict)
    removed: list[tuple[str, int]] = field(default_factory=list)
    """Names and times."""
    puts: int = 0
    syncs: int = 0

    def put(self, thing: Object, since_ns: int | None) -> None:
        self.puts += 1
        self.things[thing.metadata.uid] = thing

    def remove(self, uid: str, at_ns: int) -> None:
        self.removed.append((self.things.pop(uid).metadata.name, at_ns))

    def synced(self) -> None:
        self.syncs += 1

    @property
    def names(self) -> list[str]:
        return sorted(thing.metadata.name for thing in self.things.values())


def access(api: FakeApi) -> Access:
    return Access(server=api.url, token=TOKEN).checked()


def kubeconfig(folder: Path, url: str) -> Path:
    path = folder / "config"
    path.write_text(
        "current-context: c\ncontexts: [{name: c, context: {cluster: demo, user: u}}]\n"
        f"clusters: [{{name: demo, cluster: {{server: '{url}'}}}}]\n"
        f"users: [{{name: u, user: {{token: {TOKEN}}}}}]\n"
    )
    return path


@contextlib.contextmanager
def in_a_thread() -> Iterator[FakeApi]:
    """A server in a thread of its own, for what blocks and for other processes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = FakeApi()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(60)
    yield server
    asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@contextlib.asynccontextmanager
async def running(
    api: FakeApi,
    *,
    resource: Resource = PODS,
    selector: str = "",
    timing: Timing = QUICK,
    given: Access | None = None,
) -> AsyncIterator[tuple[Reflector, Seen]]:
    seen = Seen()
    async with Client(given or access(api), timing) as client:
        reflector = Reflector(client, resource, seen, selector=selector)
        task = asyncio.create_task(reflector.run())
        try:
            yield reflector, seen
        finally:
            assert not task.done(), task
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, not only an event
            await asyncio.sleep(0.005)
