from __future__ import annotations

from flowobs import wire
from flowobs.batch import FlowBatch
from flowobs.wire import Encoder
from relay.dictionary import AgentDictionary, Dictionary
from tests.flow_factory import new_table, random_batch


def tell(agent: AgentDictionary, encoder: Encoder) -> None:
    for message in encoder.pending():
        agent.learn(message)


def decode(agent: AgentDictionary, batch: FlowBatch) -> FlowBatch:
    return agent.decode(wire.parse(wire.encode(batch, 1)))


def test_agents_share_one_table():
    shared = Dictionary()
    a, b = shared.agent(), shared.agent()
    one, two = random_batch(5, new_table(), 1), random_batch(5, new_table(), 2)
    tell(a, Encoder(one.endpoints))
    tell(b, Encoder(two.endpoints))
    both = FlowBatch.concat([decode(a, one), decode(b, two)])
    assert list(both.rows()) == [*one.rows(), *two.rows()]


def test_a_table_over_the_limit_is_replaced_and_agents_need_not_say_anything_again():
    shared = Dictionary(limit=100)
    a, b = shared.agent(), shared.agent()
    one, two = random_batch(5, new_table(), 1), random_batch(5, new_table(), 2, names=200)
    tell(a, Encoder(one.endpoints))
    before = decode(a, one)
    tell(b, Encoder(two.endpoints))
    after = decode(a, one)

    assert shared.generation == 2
    assert after.endpoints is not before.endpoints
    assert list(before.rows()) == list(after.rows()) == list(one.rows())
    assert list(decode(b, two).rows()) == list(two.rows())


def test_names_of_agents_that_are_gone_go_with_the_old_table():
    shared = Dictionary(limit=100)
    gone, stays = shared.agent(), shared.agent()
    batch = random_batch(3, new_table(), 1)
    strings = next(Encoder(random_batch(5, new_table(), 2, names=200).endpoints).pending())
    gone.learn(strings)
    del gone
    tell(stays, Encoder(batch.endpoints))
    assert list(decode(stays, batch).rows()) == list(batch.rows())
    assert len(shared.endpoints.strings) < 100


def test_what_agents_use_at_the_same_time_fits_in():
    shared = Dictionary(limit=10)
    tables = [new_table() for _ in range(5)]
    agents = [shared.agent() for _ in tables]
    batches = [random_batch(3, t, seed, names=50) for seed, t in enumerate(tables)]
    for agent, table in zip(agents, tables, strict=True):
        tell(agent, Encoder(table))
    generation = shared.generation
    for _ in range(3):
        for agent, batch in zip(agents, batches, strict=True):
            assert list(decode(agent, batch).rows()) == list(batch.rows())
    assert shared.generation <= generation + 1
