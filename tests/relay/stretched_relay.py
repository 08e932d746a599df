"""A relay that takes its time between commit and ack: stretched_relay WINDOW once|twice ARGS...

While it does so the file WINDOW is there, and a kill hits that moment.
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

STRETCH_S = 0.3
window, kind, *arguments = sys.argv[1:]
finish, insert_file = CombiningCommitter._finish, Store.insert_file


def slowly(self: CombiningCommitter, token: str, members: list[Member]) -> None:
    Path(window).touch()
    time.sleep(STRETCH_S)
    finish(self, token, members)
    Path(window).unlink()


def under_any_token(self: Store, path: Path, token: str) -> None:
    insert_file(self, path, uuid.uuid4().hex)


CombiningCommitter._finish = slowly  # type: ignore[method-assign]
if kind == "twice":
    Store.insert_file = under_any_token  # type: ignore[method-assign]
    Spool.has = lambda self, agent, epoch, number: False  # type: ignore[method-assign]
    CombiningCommitter.stored = lambda self, agent, epoch: 0  # type: ignore[method-assign]

main(arguments)
