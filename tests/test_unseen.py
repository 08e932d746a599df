"""What the kernel does while a given process runs is noted, and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.unseen import Unseen

pytestmark = pytest.mark.root
REFUSED = "import socket; socket.socket().connect_ex(('127.0.0.1', 1))"


@pytest.fixture
def mine() -> Iterator[Unseen]:
    try:
        made = Unseen(os.getpid())
    except OSError as error:
        pytest.skip(f"no tracefs: {error}")
    yield made
    made.close()


def test_events_of_the_process_alone_are_counted_until_the_next_beginning(mine: Unseen) -> None:
    subprocess.run([sys.executable, "-c", REFUSED], check=True)
    assert mine.count() == 0
    with socket.socket() as client, suppress(OSError):
        client.connect(("127.0.0.1", 1))
    assert mine.count() > 0
    mine.clear()
    assert mine.count() == 0


def test_threads_that_begin_later_are_of_the_process(mine: Unseen) -> None:
    def connect() -> None:
        with socket.socket() as client, suppress(OSError):
            client.connect(("127.0.0.1", 1))

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    assert mine.count() > 0
