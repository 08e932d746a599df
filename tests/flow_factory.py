"""Flow batches for tests: random ones by seed, and a hypothesis strategy."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from hypothesis import strategies as st

from flowobs import schema
from flowobs.batch import DTYPES, Endpoint, Endpoints, FlowBatch, Strings

_WORDS = ("", "shop", "web-0", "größe", "\x00\x7f", "a" * 200, "eth0", "日本")


def new_table() -> Endpoints:
    """An empty endpoint table with strings of its own."""
    return Endpoints(Strings())


def random_batch(
    rows: int, table: Endpoints, seed: int = 0, *, names: int = 20, kind: int | None = None
) -> FlowBatch:
    """Records of the last minute in which every bit of every number may be set."""
    rng = np.random.default_rng(seed)
    strings = [table.strings.id(w) for w in (*_WORDS, *(f"name-{i}" for i in range(names)))]
    values = table.strings.values
    ends = [
        table.id(
            Endpoint(
                int(rng.integers(0, 256)),
                *(values[i] for i in rng.choice(strings, 12)),
                int(rng.integers(0, 1 << 32)),
            )
        )
        for _ in range(names)
    ]
    columns: dict[str, Any] = {}
    for column in schema.RECORD_COLUMNS:
        dtype = DTYPES[column.type]
        if column.type == "string":
            columns[column.name] = rng.choice(strings, rows).astype(dtype)
        elif column.type == "ip":
            columns[column.name] = rng.integers(0, 256, (rows, 16), dtype)
        elif column.type == "time":
            now = time.time_ns()
            columns[column.name] = np.sort(rng.integers(now - 60 * 10**9, now, rows, dtype))
        else:
            columns[column.name] = rng.integers(0, np.iinfo(dtype).max, rows, dtype, endpoint=True)
    if kind is not None:
        columns["kind"][:] = kind
    for name in schema.ENDPOINT_WIRE:
        columns[name] = rng.choice(ends, rows).astype("<u4")
    return FlowBatch(columns, table)


@st.composite
def batches(draw: st.DrawFn, max_rows: int = 30) -> FlowBatch:
    """Random batches; some have whole columns of zeros, as real ones do."""
    batch = random_batch(
        draw(st.integers(1, max_rows)), new_table(), draw(st.integers(0, 2**32)), names=5
    )
    for name in draw(st.sets(st.sampled_from(sorted(batch.columns)))) - {"time"}:
        batch.columns[name] = np.zeros_like(batch.columns[name])
    return batch
