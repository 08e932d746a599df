"""What can be measured of traffic, and what it can be measured of: for the API and the terminal."""

from __future__ import annotations

from typing import Final

COUNTS: Final = {
    "bytes": ("bytes", "reply_bytes"),
    "packets": ("packets", "reply_packets"),
    "rate": ("bytes", "reply_bytes"),
    "flows": ("flows",),
    "opens": ("opens",),
    "drops": ("drops",),
    "retransmits": ("retransmits",),
    "resets": ("resets",),
    "fails": ("fails",),
}
"""Measure -> the counters of an edge that it adds up; ``rate`` is bytes a second."""

LATENCIES: Final = (
    "connect_ms", "connect_p95_ms", "connect_p99_ms", "rtt_ms", "rtt_p95_ms", "rtt_p99_ms",
)  # fmt: skip
"""Measures that do not add up: fields of an edge, None where nothing tells."""

MEASURES: Final = (*COUNTS, *LATENCIES)

DIMENSIONS: Final = ("edge", "source", "destination", "end")
"""What is measured; an ``end`` is a source or a destination, whatever it was."""


def unit(measure: str) -> str:
    """Its unit: ``bytes``, ``bytes/s``, ``ms``; what is counted, where that is its unit."""
    return "ms" if measure in LATENCIES else "bytes/s" if measure == "rate" else measure
