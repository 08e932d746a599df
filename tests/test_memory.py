"""Tables take memory where they are written to, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowobs.memory import zeros


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def test_zeros_take_memory_when_they_are_written() -> None:
    before = _resident_mb()
    table = zeros(1 << 24, np.uint64)
    assert _resident_mb() - before < 20
    assert len(table) == 1 << 24 and table.dtype == np.uint64
    table[-5:] = 7
    assert table[-6:].tolist() == [0, 7, 7, 7, 7, 7]
    table += np.uint64(1)
    assert _resident_mb() - before > 100
