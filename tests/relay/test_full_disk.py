"""A full disk: agents keep what they have on theirs, the status says why, it goes on by itself."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from flowobs.agent.spill import Spill
from relay.store import Store, StoreError, ddl
from relay.store.engine import Embedded
from relay.store.errors import full
from relay.store.migrations import VERSION
from tests.relay.flows import flows
from tests.relay.process import Agent, RelayProcess, wait_for

MOUNT = 'mkdir -p "$0" && mount -t tmpfs -o size=300m none "$0" && exec "$@"'
DAY_NS = 86_400 * 10**9


def fill(ballast: Path) -> None:
    """Up to the last byte."""
    with ballast.open("wb", 0) as file:
        for size in (1 << 20, 1):
            with pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(size))


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, needs root")
def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    store = tmp_path / "store"
    relay = RelayProcess(tmp_path, inside=["unshare", "-m", "sh", "-c", MOUNT, str(store)])
    spill = Spill(tmp_path / "spool", 64 << 20)
    agent = Agent(relay.agents, max_bytes=2 << 20, spill=spill)
    ballast = Path(f"/proc/{relay.process.pid}/root{store}/ballast")

    def status() -> Any:
        with relay.client() as client:
            return client.get("/api/v1/status").json()["store"]

    try:
        agent.store(flows(1000))
        fill(ballast)
        for i in range(20):  # some 5 MB: more than the agent may hold in memory
            agent.put(flows(1000, first_port=i * 1000))
            wait_for(lambda: agent.forwarder.spool_bytes <= 1 << 20)
        wait_for(lambda: status()["error"], 30)
        waiting = status()
        assert "is full: free space, or keep less with --max-disk" in waiting["error"]
        assert (waiting["healthy"], waiting["rows"]) == (False, 1000)
        assert waiting["queued"] >= 1000
        with relay.client() as client:
            assert client.get("/healthz").status_code == 503
        assert agent.forwarder.spool_records == 20_000
        assert agent.forwarder.spool_disk_bytes > 0
        ballast.unlink()
        wait_for(lambda: agent.forwarder.spool_records == 0, 60)
        wait_for(lambda: (status()["rows"], status()["error"]) == (21_000, None), 30)
        assert not agent.forwarder.dropped
        with relay.client() as client:
            answer = client.get("/api/v1/flows?first=30000&format=csv&fields=src_port").text
        assert len(set(answer.splitlines()[1:])) == 21_000
    finally:
        agent.stop()
        relay.stop()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, needs root")
@pytest.mark.parametrize("reserve", [True, False])
def test_a_relay_starts_on_a_full_disk(tmp_path: Path, reserve: bool) -> None:
    """It drops what is past its retention; without the room for that, it has all that it had."""
    store = tmp_path / "store"
    mount = ["unshare", "-m", "sh", "-c", MOUNT, str(store), "sh", "-c", "echo; exec sleep 600"]
    with subprocess.Popen(mount, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        inside = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", f"--wd={Path.cwd()}"]
        folder = Path(f"/proc/{holder.pid}/root{store}")
        ballast = folder / "ballast"
        relay = RelayProcess(tmp_path, inside=inside)
        agent = Agent(relay.agents)
        try:
            for age in (2, 0):
                agent.store(flows(1000, start_ns=time.time_ns() - age * DAY_NS))
            agent.stop()
            relay.stop()
            if not reserve:
                (folder / "reserve").unlink()
            fill(ballast)
            relay = RelayProcess(tmp_path, "--retention", "1d", inside=inside)
            agent = Agent(relay.agents)
            with relay.client() as client:

                def status() -> Any:
                    return client.get("/api/v1/status").json()["store"]

                assert status()["rows"] == (1000 if reserve else 2000)
                assert ("cannot be dropped" in relay.log.read_text()) == (not reserve)
                agent.put(flows(1000, first_port=1000))
                wait_for(lambda: "is full: free space" in (status()["error"] or ""))
                assert agent.forwarder.stats.stored_records == 0
                assert len(client.get("/api/v1/flows?last=1000").json()["flows"]) == 1000
                ballast.unlink()
                wait_for(
                    (folder / "reserve").exists
                )  # else a status from before the sweep would do
                wait_for(lambda: (status()["rows"], status()["error"]) == (2000, None))
        finally:
            agent.stop()
            relay.process.kill()
            relay.process.wait()
            holder.kill()


def test_no_table_is_changed_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine would leave its definition empty, and never open the store again."""

    def no_room(engine: Embedded) -> None:
        raise full(engine.url)

    url = f"chdb://{tmp_path / 'store'}"
    Store.open(url).close()
    monkeypatch.setattr(Embedded, "check_room", no_room)
    older = f"MODIFY COMMENT '{ddl.mark(VERSION - 1)}'"
    for change in (older, "DROP COLUMN tunnel_id"):
        store = Store.open(url, max_disk="1GB")
        definition = str(store._writer.command("SHOW CREATE TABLE flows"))
        assert ddl.parts(None)[0] in definition
        store._writer.command(f"ALTER TABLE flows {change}")
        store.close()
        with pytest.raises(StoreError, match="is full: free space"):
            Store.open(url)
        with monkeypatch.context() as patched:
            patched.setattr(Embedded, "check_room", lambda engine: None)
            Store.open(url).close()
