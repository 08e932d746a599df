"""Two pods with echo servers and nftables counters, watched by a real agent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import V4, V6, Lab, Stack, stack
from tests.truth.kernel import count_with_nftables

TALK = str(Path(__file__).parent / "talk.py")


@pytest.fixture(scope="package", params=["core", pytest.param("bcc", marks=pytest.mark.bcc)])
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Stack]]:
    """A TCP and UDP echo server in pod b on port 7000 of both families."""
    with Lab() as lab, stack(lab, loader=request.param) as flowobs:
        count_with_nftables(lab)
        for address in (V4["b"], V6["b"]):
            server = lab.start("b", sys.executable, TALK, "server", address, "7000")
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
        yield lab, flowobs
