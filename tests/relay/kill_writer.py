"""A relay's writing half, to be killed: kill_writer URL ACKS GROUPS stable|random

Commits groups one after the other from the first that ACKS does not name. Between "stored"
(printed) and the ack (a line in ACKS) it waits for a line on stdin, or its end, so that a kill
there is one between insert and ack.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from pathlib import Path
from typing import TextIO

import numpy as np
from prometheus_client import CollectorRegistry

from flowobs.schema import Kind
from relay.committer import DirectCommitter, Group
from relay.metrics import RelayMetrics
from relay.store import Store
from tests.flow_factory import new_table, random_batch
from tests.relay.counted import counted

ROWS = 100


class RandomToken(Group):
    """The control: what a relay without stable tokens would do."""

    @property
    def token(self) -> str:
        return str(uuid.uuid4())


async def main(url: str, acks: TextIO, first: int, groups: int, kind: str) -> None:
    store = Store.open(url)
    committer = DirectCommitter(
        store, RelayMetrics(CollectorRegistry(), "0"), lambda error: os._exit(3)
    )
    committer.start()
    make = Group if kind == "stable" else RandomToken
    for number in range(first, groups + 1):
        stored = asyncio.Event()
        batch = random_batch(ROWS, new_table(), number, kind=Kind.update)
        batch.columns["src_cookie"][:] = number * ROWS + np.arange(ROWS)
        await committer.submit(make("agent", 1, number, [batch], ROWS, stored.set))
        await stored.wait()
        print("stored", number, flush=True)
        sys.stdin.readline()
        acks.write(f"{number}\n")
        acks.flush()
    await committer.stop(5)
    print(*counted(store), flush=True)
    store.close()


if __name__ == "__main__":
    with Path(sys.argv[2]).open("a+") as file:
        file.seek(0)
        begin = len(file.readlines()) + 1
        asyncio.run(main(sys.argv[1], file, begin, int(sys.argv[3]), sys.argv[4]))
