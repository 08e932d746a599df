"""A relay that takes its time between commit and ack: stretched_relay SECONDS once|twice ARGS...

``twice`` is the control: a relay that neither keeps its tokens nor remembers what it stored.
"""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path

from relay.cli import main
from relay.committer import CombiningCommitter
from relay.committer.spool import Member, Spool
from relay.store import Store

seconds, kind, *arguments = sys.argv[1:]
finish, insert_file = CombiningCommitter._finish, Store.insert_file


def slowly(self: CombiningCommitter, token: str, members: list[Member]) -> None:
    time.sleep(float(seconds))
    finish(self, token, members)


def under_any_token(self: Store, path: Path, token: str) -> None:
    insert_file(self, path, uuid.uuid4().hex)


CombiningCommitter._finish = slowly  # type: ignore[method-assign]
if kind == "twice":
    Store.insert_file = under_any_token  # type: ignore[method-assign]
    Spool.has = lambda self, agent, epoch, number: False  # type: ignore[method-assign]
    CombiningCommitter.stored = lambda self, agent, epoch: 0  # type: ignore[method-assign]

main(arguments)
