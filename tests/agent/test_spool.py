from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from flowobs import schema, wire
from flowobs.agent.spill import Spill
from flowobs.agent.spool import WHOLE_ROWS, Epoch, Spool
from flowobs.batch import Endpoints, FlowBatch
from flowobs.wire import Decoder, Encoder
from tests.flow_factory import new_table, random_batch

UPDATE = int(schema.Kind.update)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock | None = None, **options) -> Spool:
    defaults = {"node": "n1", "max_bytes": 1 << 30, "group_interval": 1.0, "group_rows": 1000}
    return Spool(**(defaults | options), clock=clock or Clock())


def drain(spool: Spool, epoch: Epoch | None = None) -> list[tuple[int, int, bool, bool]]:
    """(group, rows, close, resent) of every micro-batch there is to send."""
    epoch = epoch or spool.head
    out, group, index = [], 0, 0
    while (taken := spool.take(epoch, group, index)) is not None:
        current, micro, resent = taken
        index = index + 1 if current.number == group else 1
        group = current.number
        message = wire.parse(spool.read(micro))
        assert message.group == group
        out.append((group, message.rows, message.close, resent))
    return out


def test_what_was_put_is_one_micro_batch_and_a_group_closes_when_it_is_old():
    clock = Clock()
    spool, table = make(clock), new_table()
    spool.put(random_batch(3, table))
    spool.put(random_batch(4, table))
    spool.cut()
    assert spool.close_in() == 1.0
    clock.now = 1.5
    spool.put(random_batch(1, table))
    spool.cut()
    assert drain(spool) == [(1, 7, False, False), (1, 1, True, False)]
    assert spool.close_in() is None


def test_a_large_batch_is_not_copied_into_one_with_the_small_ones_beside_it():
    spool, table = make(group_rows=10 * WHOLE_ROWS), new_table()
    batches = [random_batch(rows, table) for rows in (3, 4, WHOLE_ROWS, 5, 6)]
    with spool._groups_change:
        putting = threading.Thread(target=lambda: [spool.put(batch) for batch in batches])
        putting.start()
        putting.join()
    spool.cut(close=True)
    assert drain(spool) == [
        (1, 7, False, False),
        (1, WHOLE_ROWS, False, False),
        (1, 11, True, False),
    ]
    sent = b"".join(wire.parse(m.data).columns[0].data for m in spool.head.groups[0].micros)
    put = b"".join(b.columns["time"].tobytes() for b in batches)
    assert sent == put, "in the order in which it was put"


def test_a_group_without_new_records_is_closed_by_an_empty_micro_batch():
    clock = Clock()
    spool = make(clock)
    spool.put(random_batch(3, new_table()))
    spool.cut()
    clock.now = 1.0
    spool.cut()
    assert drain(spool) == [(1, 3, False, False), (1, 0, True, False)]


def test_nothing_put_is_nothing_sent():
    spool = make()
    spool.put(FlowBatch.zeros(0, new_table()))
    spool.cut(close=True)
    assert drain(spool) == []
    assert spool.empty


def test_a_large_batch_is_cut_at_once_but_waits_for_nobody():
    spool, table = make(group_rows=10 * WHOLE_ROWS), new_table()
    spool.put(random_batch(WHOLE_ROWS, table))
    assert [m.rows for m in micros(spool)] == [WHOLE_ROWS]
    with spool._groups_change:  # the sender's thread writes to the disk
        putting = threading.Thread(target=spool.put, args=(random_batch(WHOLE_ROWS, table),))
        putting.start()
        putting.join()
    assert len(micros(spool)) == 1
    spool.cut()
    assert [m.rows for m in micros(spool)] == [WHOLE_ROWS, WHOLE_ROWS]


def micros(spool: Spool) -> list[Any]:
    return [wire.parse(spool.read(m)) for g in spool.head.groups for m in g.micros]


def test_a_full_group_is_closed_and_the_next_one_begins():
    spool = make(group_rows=10)
    spool.put(random_batch(25, new_table()))
    spool.cut(close=True)
    assert drain(spool) == [
        (1, 10, True, False),
        (2, 10, True, False),
        (3, 5, True, False),
    ]


def test_acks_free_memory_and_the_rest_is_sent_again_to_the_byte():
    spool = make(group_rows=10)
    spool.put(random_batch(30, new_table()))
    spool.cut()
    epoch = spool.head
    sent = [m.data for g in epoch.groups for m in g.micros]
    drain(spool)
    assert spool.ack(epoch, 2) == 20
    assert drain(spool) == [(3, 10, True, True)]
    assert [m.data for g in epoch.groups for m in g.micros] == sent[2:]
    spool.ack(epoch, 3)
    assert (spool.bytes, spool.rows, spool.empty) == (0, 0, True)


def lost_records(spool: Spool, table: Endpoints) -> list[dict]:
    decoder = Decoder(new_table())
    for message in Encoder(table).pending():
        decoder.dictionary(message)
    return [
        row
        for group in spool.head.groups
        for micro in group.micros
        for row in decoder.batch(wire.parse(micro.data)).rows()
        if row["kind"] == "lost"
    ]


def test_over_the_limit_the_oldest_unsent_group_goes_and_is_told_of():
    dropped: list[tuple[str, int]] = []
    table = new_table()
    spool = make(group_rows=10, max_bytes=20_000, on_drop=lambda *a: dropped.append(a))
    put = 0
    spool.put(random_batch(10, table, kind=UPDATE))
    put += 10
    spool.cut()
    drain(spool)  # group 1 is on its way: only the relay decides what becomes of it
    for seed in range(20):
        spool.put(random_batch(10, table, seed, kind=UPDATE))
        spool.cut()
        put += 10
    spool.put(random_batch(5, table, kind=UPDATE))
    spool.cut(close=True)
    put += 5

    groups = spool.head.groups
    assert groups[0].number == 1
    assert spool.bytes < 20_000 + 10 * wire.ROW_BYTES
    assert sum(g.records for g in groups) + spool.dropped["spool_full"] == put
    assert sum(n for _, n in dropped) == spool.dropped["spool_full"] > 0
    # Records of loss that were themselves dropped are told of again.
    told = lost_records(spool, table)
    assert sum(r["lost"] for r in told) == spool.dropped["spool_full"]
    assert {(r["node"], r["drop_reason"]) for r in told} == {("n1", "spool_full")}


def test_with_nothing_unsent_to_drop_the_newest_records_go():
    table = new_table()
    spool = make(group_rows=10, max_bytes=5_000)
    spool.put(random_batch(10, table, kind=UPDATE))
    spool.cut()
    drain(spool)
    spool.put(random_batch(100, table, kind=UPDATE))
    assert spool.dropped["spool_full"] == 100
    spool.cut()
    assert [g.number for g in spool.head.groups] == [1]


def test_a_new_table_begins_an_epoch_that_waits_for_the_old_one():
    spool, old, new = make(), new_table(), new_table()
    spool.put(random_batch(3, old))
    first = spool.head
    spool.put(random_batch(4, new))
    spool.cut(close=True)
    assert spool.head is first
    assert drain(spool, first) == [(1, 3, True, False)]
    assert not first.drained
    spool.ack(first, 1)
    assert first.drained

    second = spool.head
    assert second.number > first.number
    assert second.endpoints is new
    assert drain(spool, second) == [(1, 4, True, False)]


def test_giving_up_counts_by_reason():
    spool = make()
    spool.put(random_batch(3, new_table(), kind=UPDATE))
    spool.cut(close=True)
    assert spool.drop_first(spool.head, "refused") == 3
    assert spool.drop_first(spool.head, "refused") == 0
    spool.put(random_batch(2, new_table(), kind=UPDATE))
    assert spool.drop_all("shutdown") == 2
    assert spool.dropped == {"refused": 3, "shutdown": 2}
    assert spool.empty


def bodies(spool: Spool, epoch: Epoch) -> list[bytes]:
    return [spool.read(m) for g in epoch.groups for m in g.micros]


def test_what_memory_has_no_room_for_is_on_disk_and_the_same_to_the_byte(tmp_path):
    table = new_table()
    batches = [random_batch(10, table, seed, kind=UPDATE) for seed in range(40)]

    def fill(spool: Spool) -> list[bytes]:
        for batch in batches:
            spool.put(batch)
            spool.cut()
        return bodies(spool, spool.head)

    spill = Spill(tmp_path, 1 << 20, segment_bytes=4096)
    spool = make(group_rows=10, max_bytes=20_000, spill=spill)
    assert fill(spool) == fill(make(group_rows=10))
    assert spool.bytes <= 10_000 + 10 * wire.ROW_BYTES
    assert spool.rows == 400
    assert spill.bytes > 20_000
    assert not spool.dropped
    assert list(tmp_path.iterdir()) == []  # a killed agent leaves no file

    drain(spool)
    assert spool.ack(spool.head, 30) == 300
    assert spool.ack(spool.head, 40) == 100
    assert (spool.bytes, spool.rows, spill.bytes) == (0, 0, 0)
    spill.close()


def test_a_burst_between_two_cuts_goes_to_disk_too(tmp_path):
    spill = Spill(tmp_path, 1 << 20, segment_bytes=4096)
    table = new_table()
    spool = make(group_rows=10, max_bytes=20_000, spill=spill)
    for seed in range(100):
        spool.put(random_batch(10, table, seed, kind=UPDATE))
        assert spool.bytes <= 20_000
    assert not spool.dropped
    spool.cut(close=True)
    assert sum(g.records for g in spool.head.groups) == spool.rows == 1000
    assert spool.ack(spool.head, 100) == 1000
    assert (spool.bytes, spool.rows, spill.bytes) == (0, 0, 0)
    spill.close()


def test_a_burst_goes_to_disk_while_the_sender_sends(tmp_path):
    spill = Spill(tmp_path, 16 << 20, segment_bytes=4096)
    table = new_table()
    batches = [random_batch(7, table, seed, kind=UPDATE) for seed in range(10)]
    spool = make(group_rows=10, max_bytes=20_000, spill=spill)

    def burst() -> None:
        for n in range(600):
            spool.put(batches[n % 10])

    thread = threading.Thread(target=burst)
    thread.start()
    rows = group = index = acked = 0
    ended = False
    while not ended:
        ended = not thread.is_alive()
        spool.cut(close=ended)
        while (taken := spool.take(spool.head, group, index)) is not None:
            current, micro, resent = taken
            index = index + 1 if current.number == group else 1
            group = current.number
            rows += wire.parse(spool.read(micro)).rows
            assert not resent
            acked += spool.ack(spool.head, group - 1)
    acked += spool.ack(spool.head, group)
    assert rows == acked == 4200
    assert not spool.dropped
    assert (spool.bytes, spool.rows, spill.bytes) == (0, 0, 0)
    spill.close()


def test_on_a_full_spill_the_oldest_makes_room(tmp_path):
    spill = Spill(tmp_path, 40_000, segment_bytes=4096)
    table = new_table()
    spool = make(group_rows=10, max_bytes=20_000, spill=spill)
    for seed in range(100):
        spool.put(random_batch(10, table, seed, kind=UPDATE))
        spool.cut()
        assert spill.bytes <= 40_000
    groups = spool.head.groups
    assert spool.dropped["spool_full"] + sum(g.records for g in groups) == 1000
    assert groups[0].number > 1
    assert [g.number for g in groups] == list(range(groups[0].number, 101))
    spill.close()


def test_a_disk_that_refuses_leaves_records_in_memory(tmp_path, monkeypatch, caplog):
    spill = Spill(tmp_path, 1 << 20)
    refused = OSError(28, "No space left on device")
    clock = Clock()
    table = new_table()
    spool = make(clock, group_rows=10, max_bytes=20_000, spill=spill)

    def refuse(data: bytes) -> None:
        raise refused

    with monkeypatch.context() as patched:
        patched.setattr(spill, "write", refuse)
        for seed in range(40):
            spool.put(random_batch(10, table, seed, kind=UPDATE))
            spool.cut()
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path} takes no more records (No space left on device): they stay in memory,"
        " up to 0 MiB"
    ]
    kept = sum(g.records for g in spool.head.groups)
    assert kept + spool.dropped["spool_full"] == 400

    clock.now = 11.0
    spool.cut()
    assert spill.bytes > 0
    assert sum(g.records for g in spool.head.groups) == kept
    spill.close()


def test_a_disk_that_lost_data_says_so(tmp_path):
    spill = Spill(tmp_path, 1 << 20)
    place = spill.write(b"x" * 100)
    os.ftruncate(place.segment.fd, 50)
    with pytest.raises(OSError, match=r"^50 of 100 bytes came back from /"):
        spill.read(place)
    spill.close()
