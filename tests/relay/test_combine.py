"""The combining committer and its files."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from flowobs.batch import FlowBatch
from relay.committer import CombiningCommitter, Committer, Group
from relay.committer import spool as spool_module
from relay.committer.spool import MARK_S, Mark, Spool
from relay.metrics import RelayMetrics
from relay.store import StoreError
from tests.flow_factory import new_table, random_batch
from tests.relay.test_committer import until


class FakeStore:
    """Keeps what files say, once per token, as the engine does."""

    retention_s = 3600

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.bytes: list[bytes] = []
        self.fail: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()

    def insert(self, batches: Sequence[FlowBatch], token: str) -> None:
        raise AssertionError("a combining committer inserts files")

    def insert_file(self, path: Path, token: str) -> None:
        self.gate.wait()
        if self.fail is not None:
            raise self.fail
        self.tokens.append(token)
        self.bytes.append(path.read_bytes())


class Setup:
    def __init__(self, folder: Path, **options) -> None:
        self.folder = folder
        self.store = FakeStore()
        self.registry = CollectorRegistry()
        self.deaths: list[BaseException] = []
        self.stored: list[tuple[str, int]] = []
        self.table = new_table()
        self.committer = CombiningCommitter(
            self.store,
            folder,
            RelayMetrics(self.registry, "0"),
            self.deaths.append,
            retry_first=0.01,
            combine_s=0.1,
            **options,
        )
        self.interface: Committer = self.committer

    def group(self, agent: str, number: int, rows: int = 10, epoch: int = 7) -> Group:
        batch = random_batch(rows, self.table, number)
        return Group(
            agent, epoch, number, [batch], rows, lambda: self.stored.append((agent, number))
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"flowobs_relay_{name}", labels)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    made = Setup(tmp_path / "commit", combine_rows=100)
    made.committer.start()
    yield made
    made.store.gate.set()
    await made.committer.stop(1)


async def test_groups_of_several_agents_share_an_insert(setup):
    setup.committer._combine_s = 60
    for agent in ("a", "b", "c"):
        await setup.committer.submit(setup.group(agent, 1))
    await setup.committer.stop(5)  # who ends waits for nothing
    await until(lambda: len(setup.stored) == 3)
    assert len(setup.store.tokens) == 1
    assert setup.value("groups_stored_total") == 3
    assert setup.value("records_stored_total") == 30
    assert setup.files() == {"marks.json"}
    assert setup.committer.stored("b", 7) == 1
    assert setup.committer.stored("b", 8) == 0


async def test_a_full_insert_does_not_wait_for_more(setup):
    setup.committer._combine_s = 60
    for number in range(1, 13):
        await setup.committer.submit(setup.group("a", number))
    await until(lambda: len(setup.stored) == 10)
    assert len(setup.store.tokens) == 1
    await setup.committer.stop(5)
    assert len(setup.store.tokens) == 2


async def test_inserts_of_few_records_keep_their_distance(setup):
    setup.committer._last = time.monotonic() + 60
    await setup.committer.submit(setup.group("a", 1))
    wanted = time.monotonic() + 3 * setup.committer._combine_s
    await until(lambda: time.monotonic() > wanted)
    assert not setup.stored
    await setup.committer.stop(5)
    assert len(setup.store.tokens) == 1


async def test_what_was_stored_is_acknowledged_and_not_stored_again(setup):
    await setup.committer.submit(setup.group("a", 5))
    await until(lambda: setup.stored)
    again = Setup(setup.folder)
    again.committer.start()
    for number in (4, 5, 6):
        await again.committer.submit(again.group("a", number))
    await until(lambda: len(again.stored) == 3)
    assert again.value("records_stored_total") == 10
    assert again.value("groups_resent_total") == 2
    await again.committer.stop(5)


async def test_a_file_left_behind_is_inserted_under_its_token_first(tmp_path):
    folder = tmp_path / "commit"
    Spool(folder).write("left", [("a", 7, 3)], [b"rows"])
    Spool(folder).write("cut", [("b", 7, 3)], [b"rows"]).rename(folder / "cut.tmp")
    setup = Setup(folder)
    setup.store.fail = StoreError("no space")
    setup.committer.start()
    await until(lambda: setup.committer.error == "no space")
    setup.store.fail = None
    await setup.committer.submit(setup.group("a", 3))
    await setup.committer.submit(setup.group("b", 3))
    await until(lambda: len(setup.stored) == 2)
    assert (setup.store.tokens[0], setup.store.bytes[0]) == ("left", b"rows")
    assert len(setup.store.tokens) == 2
    assert setup.value("records_stored_total") == 10  # only b's
    assert setup.files() == {"marks.json"}
    await setup.committer.stop(5)


async def test_a_retry_inserts_the_same_file_under_the_same_token(setup):
    setup.store.fail = StoreError("busy")
    await setup.committer.submit(setup.group("a", 1))
    await until(lambda: setup.committer.error == "busy")
    (token,) = {name.partition(".")[0] for name in setup.files()}
    setup.store.fail = None
    await until(lambda: setup.stored)
    assert setup.store.tokens == [token]
    assert setup.committer.error is None


async def test_a_full_disk_makes_agents_wait(setup, monkeypatch):
    def full(path: Path, pieces: object) -> None:
        path.write_bytes(b"part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_module, "_write", full)
    await setup.committer.submit(setup.group("a", 1))
    await until(lambda: setup.committer.error)
    assert "is full: free space, or keep less" in setup.committer.error
    monkeypatch.undo()
    await until(lambda: setup.stored)
    assert setup.files() == {"marks.json"}


async def test_groups_with_nothing_to_store_are_marked(setup):
    group = setup.group("a", 1)
    group.batches[0].columns["time"] -= 2 * 3600 * 10**9
    await setup.committer.submit(group)
    await until(lambda: setup.stored)
    assert setup.store.tokens == []
    assert setup.value("records_dropped_total", reason="expired") == 10
    assert setup.committer.stored("a", 7) == 1


async def test_a_dying_thread_is_not_silent(setup):
    setup.store.fail = SystemExit("out of memory, say")
    await setup.committer.submit(setup.group("a", 1))
    await until(lambda: setup.deaths)
    assert setup.stored == []


def test_marks_are_forgotten_by_time_and_number(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "commit")
    spool.marks = {"old": Mark(1, 1, time.time() - MARK_S - 1), "b": Mark(1, 9, time.time() - 9)}
    spool.stored([("c", 1, 4), ("b", 1, 8), ("d", 5, 1), ("d", 6, 1), ("d", 5, 2)])
    assert {agent: mark[:2] for agent, mark in spool.marks.items()} == {
        "b": (1, 9),
        "c": (1, 4),
        "d": (6, 1),
    }
    assert Spool(tmp_path / "commit").marks == spool.marks
    monkeypatch.setattr(spool_module, "MAX_MARKS", 2)
    spool.stored([])
    assert set(spool.marks) == {"c", "d"}


def test_damaged_marks_are_one_sentence(tmp_path):
    (tmp_path / "marks.json").write_text("{")
    with pytest.raises(StoreError, match=r"marks.json is damaged .* remove it"):
        Spool(tmp_path)


def test_many_agents_are_asked_to_collect_for_longer(tmp_path):
    committer = Setup(tmp_path).committer
    assert committer.group_interval_ms(1) == 2000
    assert committer.group_interval_ms(200) == 2000
    assert committer.group_interval_ms(1000) == 5000
