from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowobs import wire
from flowobs._proto.flowobs.v1 import flow_pb2 as pb
from flowobs.batch import Endpoint, FlowBatch
from flowobs.wire import Decoder, Encoder, Mark, WireError
from tests.flow_factory import batches, new_table, random_batch


def carry(batch: FlowBatch, decoder: Decoder, encoder: Encoder | None = None) -> FlowBatch:
    for message in (encoder or Encoder(batch.endpoints)).pending():
        decoder.dictionary(message)
    return decoder.batch(wire.parse(wire.encode(batch, 1)))


@given(batches())
def test_a_batch_arrives_as_it_was_sent(batch):
    table = new_table()
    table.strings.id("the receiver had other strings before")
    assert list(carry(batch, Decoder(table)).rows()) == list(batch.rows())


def test_a_batch_says_its_group_and_whether_it_closes_it():
    batch = random_batch(2, new_table())
    message = wire.parse(wire.encode(batch, 7, close=True))
    assert (message.group, message.rows, message.close) == (7, 2, True)


@pytest.mark.parametrize("name", ["vlan", "icmp_ip"])
def test_one_value_at_the_end_of_a_column_travels(name: str):
    batch = FlowBatch.zeros(5_000, new_table())
    batch.columns[name][-1] = 7
    assert (carry(batch, Decoder(new_table())).columns[name] == batch.columns[name]).all()


def test_columns_of_zeros_do_not_travel():
    batch = FlowBatch.zeros(3, new_table())
    batch.columns["bytes"][:] = 5
    assert [c.id for c in wire.parse(wire.encode(batch, 1)).columns] == [17]
    assert carry(batch, Decoder(new_table())).columns["bytes"].tolist() == [5, 5, 5]


def test_the_dictionary_goes_out_once_and_only_up_to_the_mark():
    table = new_table()
    first = random_batch(3, table, 1)
    mark = Mark.of(table)
    random_batch(3, table, 2, names=50)
    encoder, decoder = Encoder(table), Decoder(new_table())

    for message in encoder.pending(mark):
        decoder.dictionary(message)
    assert decoder.size == mark.strings + mark.endpoints
    assert list(decoder.batch(wire.parse(wire.encode(first, 1))).rows()) == list(first.rows())
    assert list(encoder.pending(mark)) == []
    assert list(encoder.pending()) != []
    assert list(encoder.pending()) == []


def test_a_large_dictionary_comes_in_pieces(monkeypatch):
    monkeypatch.setattr(wire, "_CHUNK_ROWS", 10)
    monkeypatch.setattr(wire, "_CHUNK_CHARACTERS", 300)
    batch = random_batch(50, new_table(), names=100)
    assert len(list(Encoder(batch.endpoints).pending())) > 20
    assert list(carry(batch, Decoder(new_table())).rows()) == list(batch.rows())


def test_names_that_are_no_utf8_are_made_so():
    table = new_table()
    batch = FlowBatch.zeros(1, table)
    batch.columns["src_process"][:] = table.strings.id("bad\udcff")
    assert carry(batch, Decoder(new_table())).strings("src_process") == ["bad?"]


def test_rebind_learns_everything_again_in_another_table():
    batch = random_batch(20, new_table())
    decoder, encoder = Decoder(new_table()), Encoder(batch.endpoints)
    before = carry(batch, decoder, encoder)
    table = new_table()
    table.id(Endpoint(3, name="something else"))
    decoder.rebind(table)
    after = carry(batch, decoder, encoder)

    assert after.endpoints is table
    assert list(after.rows()) == list(before.rows()) == list(batch.rows())


def test_columns_of_a_newer_agent_are_ignored():
    message = wire.parse(wire.encode(FlowBatch.zeros(2, new_table()), 1))
    message.columns.add(id=200, data=b"whatever")
    assert len(Decoder(new_table()).batch(message)) == 2


def u32(*numbers: int) -> bytes:
    return np.array(numbers, "<u4").tobytes()


ROW = (1, *([0] * 13))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (pb.Dictionary(strings_base=5, strings=["a"]), "starts at string 5, expected 0"),
        (pb.Dictionary(strings=["a"]), "string 0 must be empty"),
        (pb.Dictionary(endpoints=b"abc"), "not a whole number of 14-column rows"),
        (pb.Dictionary(endpoints=u32(1, 2)), "not a whole number of 14-column rows"),
        (pb.Dictionary(endpoints_base=3, endpoints=u32(*ROW)), "starts at endpoint 3, expected 0"),
        (pb.Dictionary(endpoints=u32(256, *ROW[1:])), "kind 256 is not one byte"),
        (pb.Dictionary(endpoints=u32(1, 9, *ROW[2:])), "unknown string id in the endpoint table"),
    ],
)
def test_a_bad_dictionary_is_refused_with_its_reason(message, text):
    with pytest.raises(WireError, match=text):
        Decoder(new_table()).dictionary(message)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (pb.MicroBatch(rows=wire.MAX_ROWS + 1), "over the limit"),
        (pb.MicroBatch(rows=2, columns=[pb.Column(id=1, data=b"123")]), "time: 3 bytes for 2 rows"),
        (pb.MicroBatch(rows=1, columns=[pb.Column(id=14, data=u32(7))]), "string id in interface"),
        (pb.MicroBatch(rows=1, columns=[pb.Column(id=34, data=u32(7))]), "row in src_endpoint"),
    ],
)
def test_a_bad_batch_is_refused_with_its_reason(message, text):
    with pytest.raises(WireError, match=text):
        Decoder(new_table()).batch(message)


def test_a_dictionary_is_bounded(monkeypatch):
    monkeypatch.setattr(wire, "MAX_DICTIONARY_ROWS", 2)
    decoder = Decoder(new_table())
    with pytest.raises(WireError, match="over the limit of 2 and"):
        decoder.dictionary(pb.Dictionary(strings=["", "a", "b"]))
    with pytest.raises(WireError, match="over the limit of 2"):
        decoder.dictionary(pb.Dictionary(endpoints=u32(*ROW, *ROW, *ROW)))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_batch_or_a_wire_error(data):
    with contextlib.suppress(WireError):
        Decoder(new_table()).batch(wire.parse(data))


@pytest.mark.parametrize("rows", [0, 1, 100, 20_000])
@pytest.mark.parametrize("flag", [False, True])
def test_what_is_written_by_hand_is_what_protobuf_writes(rows: int, flag: bool) -> None:
    data = wire.encode(random_batch(rows, new_table()), 1 << 40, close=flag)
    assert wire.parse(data).SerializeToString() == data
    message = wire.batch_message(data, resent=flag)
    assert message == pb.AgentMessage(batch=data, resent=flag).SerializeToString()
