"""How far back an answer can reach: what the store and memory hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flowobs.rows import time_text
from relay.hub import Hub

_SLACK_NS: Final = 1_000_000_000
"""The store knows its begin to the second."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """When records begin (UTC ns), in all and in memory; None where there are none."""

    begin_ns: int | None
    live_ns: int | None

    @classmethod
    def now(cls, store_begin: Callable[[], int | None], hub: Hub) -> Coverage:
        """As it is now, without asking the engine."""
        live = hub.oldest_ns
        begins = [at for at in (store_begin(), live) if at is not None]
        return cls(min(begins, default=None), live)

    def note(self, since_ns: int | None) -> str | None:
        """A sentence where a question from ``since_ns`` on asks for what is not there."""
        if since_ns is None or self.begin_ns is None or self.begin_ns <= since_ns + _SLACK_NS:
            return None
        return f"the store begins at {time_text(self.begin_ns)[:19]}Z: there are no older records"

    def document(self, since_ns: int | None) -> dict[str, str | None]:
        """For JSON."""
        return {
            "from": _text(self.begin_ns),
            "live_from": _text(self.live_ns),
            "note": self.note(since_ns),
        }

    def headers(self, since_ns: int | None) -> dict[str, str]:
        """For answers that are no JSON document."""
        found = {
            "flowobs-from": _text(self.begin_ns),
            "flowobs-live-from": _text(self.live_ns),
            "flowobs-note": self.note(since_ns),
        }
        return {name: text for name, text in found.items() if text}


def _text(ns: int | None) -> str | None:
    return None if ns is None else time_text(ns)
