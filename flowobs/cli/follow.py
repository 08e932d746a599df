"""A live tail: connects again when the relay goes, and goes on where it broke off."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from flowobs.cli.client import Relay, Row
from flowobs.cli.errors import CliError

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 10.0
STATUS_S = 2.0

T = TypeVar("T")


def follow(
    relay: Relay,
    params: dict[str, Any],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[Row] | str]:
    """Batches of records and notes on the connection; raises what trying again would not mend."""
    heard = clock()
    connected = lost = False
    delay = FIRST_DELAY_S
    while True:
        try:
            for rows in relay.records(params, follow=True):
                if lost:
                    yield f"reconnected after {clock() - heard:.1f} s, going on where it broke off"
                    lost = False
                elif connected:
                    # Not at the first sign of life: a relay that hangs up again needs time.
                    delay = FIRST_DELAY_S
                else:
                    yield f"following {relay.url}, {_zone()}, Ctrl-C ends"
                connected = True
                heard = clock()
                yield rows
        except CliError as error:
            if not connected or not error.retry:
                raise
            if not lost:
                yield f"{error.message} Trying again."
            lost = True
            # What was asked for from the past has been shown.
            params = {k: v for k, v in params.items() if k not in ("last", "since")}
            sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY_S)


def nobody_tells(relay: Relay) -> bool:
    """Whether the relay says that no agent is connected: silence is then no good news."""
    try:
        agents = relay.document("/api/v1/status", {}, STATUS_S).get("agents")
    except CliError:
        return False
    return isinstance(agents, list) and not any(
        agent.get("connected") for agent in agents if isinstance(agent, dict)
    )


def _zone() -> str:
    """Of the times that lines have: those of this machine."""
    return f"times are {time.strftime('UTC%z')}" if time.localtime().tm_gmtoff else "times are UTC"


def ticking(source: Iterator[T], interval_s: float) -> Iterator[T | None]:
    """The items of ``source``, and None whenever none came for ``interval_s``.

    A thread reads the source. It waits when nobody takes its items: then the relay counts what it
    has to drop.
    """
    items: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=64)

    def read() -> None:
        try:
            for item in source:
                items.put((item, None))
            items.put((None, StopIteration()))
        except BaseException as error:
            items.put((None, error))

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            item, error = items.get(timeout=interval_s)
        except queue.Empty:
            yield None
            continue
        if isinstance(error, StopIteration):
            return
        if error is not None:
            raise error
        yield item
