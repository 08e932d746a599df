"""A full disk: agents wait, the status says why, and it goes on by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.relay.flows import flows
from tests.relay.process import Agent, RelayProcess, wait_for

MOUNT = 'mkdir -p "$0" && mount -t tmpfs -o size=300m none "$0" && exec "$@"'


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, needs root")
def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    store = tmp_path / "store"
    relay = RelayProcess(tmp_path, inside=["unshare", "-m", "sh", "-c", MOUNT, str(store)])
    agent = Agent(relay.agents)
    ballast = Path(f"/proc/{relay.process.pid}/root{store}/ballast")

    def status() -> Any:
        with relay.client() as client:
            return client.get("/api/v1/status").json()["store"]

    try:
        agent.store(flows(1000))
        with ballast.open("wb", 0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(1 << 20))
        agent.put(flows(1000))
        agent.put(flows(1000))
        wait_for(lambda: status()["error"])
        waiting = status()
        assert "is full: free space, or keep less with --max-disk" in waiting["error"]
        assert (waiting["healthy"], waiting["rows"]) == (False, 1000)
        assert waiting["queued"] >= 1000
        with relay.client() as client:
            assert client.get("/healthz").status_code == 503
        assert agent.forwarder.spool_records == 2000
        ballast.unlink()
        wait_for(lambda: agent.forwarder.spool_records == 0, 30)
        wait_for(lambda: (status()["rows"], status()["error"]) == (3000, None))
    finally:
        agent.stop()
        relay.stop()
